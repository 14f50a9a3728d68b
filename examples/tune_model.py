"""Tune a model from Python, build it with what was found, and compare before with after.

python examples/tune_model.py [MODEL [SECONDS]]        default: light_squeezenet 60
"""

import statistics
import sys

import luthier


def main(model: str = "light_squeezenet", budget: str = "60") -> None:
    # a second run goes on where the first one ended
    print(luthier.tune(model, log="tune_model.db", threads=1, budget_s=float(budget)))

    before = luthier.compile(model, threads=1)
    after = luthier.compile(model, threads=1, log="tune_model.db")
    print(after.report)
    for name, executable in (("default schedules", before), ("tuned", after)):
        print(f"{name}: {statistics.median(executable.time(20)) * 1e3:.2f} ms")

    image = before.example_inputs()
    (expected,), (scores,) = before.run(None, image), after.run(None, image)
    print(f"largest difference between the two: {abs(scores - expected).max():.1e}")
    after.save("tune_model.luthier")
    (again,) = luthier.load("tune_model.luthier").run(None, image)
    print(f"the saved artifact gives the same: {(again == scores).all()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
