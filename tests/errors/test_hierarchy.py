"""Errors say whose fault it is."""

import inspect

import pytest

from luthier import cli_values, config, errors, peers


def _classes():
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]


def test_what_a_user_can_correct_is_an_error_and_a_defect_is_not():
    assert {c.__name__ for c in _classes() if not issubclass(c, errors.Error)} == {"InternalError"}
    assert issubclass(peers.PeerError, errors.Error) and issubclass(cli_values.UsageError, errors.Error)


def test_each_class_says_what_it_is_for():
    assert all(c.__doc__ for c in _classes())


def test_errors_survive_pickling():
    """They cross process boundaries in tuning."""
    import pickle

    for c in _classes():
        copy = pickle.loads(pickle.dumps(c("what was wrong")))
        assert type(copy) is c and str(copy) == "what was wrong"


def test_a_switch_of_the_wrong_type(monkeypatch):
    monkeypatch.setenv("LUTHIER_DEBUG", "loud")
    monkeypatch.setattr(config, "_current", None)
    with pytest.raises(errors.Error, match="LUTHIER_DEBUG='loud'"):
        config.get()


def test_switches_are_restored_after_an_error():
    before = config.get()
    with pytest.raises(RuntimeError), config.override(debug=3, verify=True):
        assert config.get().debug == 3
        raise RuntimeError
    assert config.get() == before
