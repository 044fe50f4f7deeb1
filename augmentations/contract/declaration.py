"""Check what a method declares, and that it can be pickled and imported without torch."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys

from mixbench.augmentations.contract.case import Case
from mixbench.augmentations.contract.promise import expect, promise
from mixbench.augmentations.home import FILLS, SHAPES, Home
from mixbench.augmentations.method import NEEDS, Method
from mixbench.augmentations.networks.asks import ASKS
from mixbench.augmentations.parameters import rules


@promise("name, summary, revision, label rule, needs and every parameter are declared", once=True)
def declared(case: Case) -> None:
    method = type(case.method())
    for field in ("name", "summary"):
        text = getattr(method, field, None)
        expect(
            isinstance(text, str) and bool(text) and "\n" not in text,
            f"`{field}` is {text!r}, expected a text of one line",
        )
    expect(method.name.isidentifier(), f"`name` is {method.name!r}, expected an identifier")
    expect(
        type(method.revision) is int and method.revision >= 1,
        f"`revision` is {method.revision!r}, expected a whole number at least 1",
    )
    known = ("pixels", "kept", "declared")
    expect(
        method.label_rule in known,
        f"`label_rule` is {method.label_rule!r}, expected one of {', '.join(known)}",
    )
    expect(
        method.label_rule != "declared" or bool((method.__doc__ or "").strip()),
        "`label_rule` is declared, and no docstring states the rule",
    )
    unknown = ", ".join(sorted(case.method().needs - set(NEEDS)))
    expect(not unknown, f"`needs` has {unknown}, expected some of {', '.join(NEEDS)}")
    strange = ", ".join(sorted(method.asks - set(ASKS)))
    expect(not strange, f"`asks` has {strange}, expected some of {', '.join(ASKS)}")
    expect(
        "model" in case.method().needs or not case.method().asks or case.method().has_loss,
        "`asks` says what it asks the network for, and there is neither a need of it nor a loss",
    )
    home = case.method().home or Home()
    for name, given, allowed in (
        ("shapes", home.shapes, SHAPES),
        ("fills", home.fills, FILLS),
    ):
        unknown = ", ".join(sorted(given - allowed))
        expect(
            not unknown,
            f"`home.{name}` has {unknown}, expected some of {', '.join(sorted(allowed))}",
        )
    loose = [field.name for field in dataclasses.fields(method) if "rule" not in field.metadata]
    expect(not loose, f"{', '.join(loose)}: declared without `parameter(...)`")
    known_parameters = rules(method)
    for name in ("prob", "per_sample", "pairing"):
        expect(name in known_parameters, f"the common parameter {name} is missing")
    for name, (rule, _) in known_parameters.items():
        expect(bool(rule.doc and rule.allowed()), f"{name} has no meaning or no bounds")


@promise("two with the same parameters are equal, and one can be pickled", once=True)
def travels(case: Case) -> None:
    method = case.method()
    expect(case.method() == method, "made twice with the same parameters, they differ")
    expect(type(method).__dataclass_params__.frozen, "it is not a frozen dataclass")  # type: ignore[attr-defined]
    try:
        back = pickle.loads(pickle.dumps(method))  # noqa: S301  (our own bytes)
    except Exception as error:
        expect(False, f"it can't be pickled: {str(error).splitlines()[0]}")
    expect(back == method, "pickled and read back, it differs")


@promise("importing its module does not import torch", once=True)
def light_module(case: Case) -> None:
    if case.per_sample or case.device != "cpu":
        return  # the answer is the same as for the first case
    method = type(case.method())
    if method.__module__ == "__main__" or not issubclass(method, Method):
        return
    # Python refuses to import a module that is None, so an import of torch fails at once.
    code = f"import sys; sys.modules['torch'] = None; import {method.__module__}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))},
        capture_output=True,
        text=True,
        check=False,
    )
    last = (done.stderr.strip().splitlines() or [""])[-1]
    expect(
        "import of torch halted" not in last,
        "importing its module imports torch: `mixbench list` would have to wait",
    )
    expect(done.returncode == 0, f"its module can't be imported by itself: {last}")
