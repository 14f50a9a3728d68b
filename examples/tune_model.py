"""Tune a model from Python, build it with what was found, and compare before with after.

python examples/tune_model.py [MODEL [SECONDS]]        default: light_squeezenet 60
"""

import statistics
import sys

import luthier
from luthier.codegen.detect import host_target
from luthier.tuner.database import open_log
from luthier.tuner.model_tasks import model_tasks
from luthier.tuner.session import tune


def main(model: str = "light_squeezenet", budget: str = "60") -> None:
    target = host_target(threads=1)
    tasks = model_tasks(model, target)
    with open_log("tune_model.db") as log:  # a second run goes on where the first one ended
        print(tune(tasks, log=log, target=target, budget_s=float(budget)))

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
