"""Changes to what a checkpoint holds: its types, its structure and what contradicts itself."""

from collections.abc import Callable

import torch


def _set(*keys: str | int, to: object) -> Callable[[dict], None]:
    def change(saved: dict) -> None:
        for key in keys[:-1]:
            saved = saved[key]
        saved[keys[-1]] = to

    return change


def _each_parameter(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], None]:
    def apply(saved: dict) -> None:
        saved["state"]["parameters"] = {name: change(value) for name, value in saved["state"]["parameters"].items()}

    return apply


def _each_average(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], None]:
    def apply(saved: dict) -> None:
        for values in saved["state"]["optimizer"]["state"].values():
            values |= {name: change(value) for name, value in values.items() if name != "step"}

    return apply


TAMPERINGS: dict[str, Callable[[dict], object]] = {
    "a list": lambda _: [1],
    "a number": lambda _: 3,
    "an empty dictionary": lambda _: {"": 0},
    **{f"{key}={value!r}": _set(key, to=value) for key in ("config", "origins", "state") for value in (None, 3, [3], {"a": 1}, [{"a": 1}])},
    **{f"no {key}": lambda saved, key=key: saved["state"].pop(key) and None for key in (
        "alive", "parameters", "optimizer", "generators", "products", "threads", "epochs", "seconds", "rows")},
    **{f"epochs={value!r}": _set("state", "epochs", to=value) for value in (0, -1, 1, 3, 999, "2", True, None, 2.0)},
    **{f"alive={value!r}": _set("state", "alive", to=value) for value in ([], [0, 0], [7], [1, 0], None, "01", [-1])},
    **{f"seconds={value!r}": _set("state", "seconds", to=value) for value in ([], [0.1], None, ["a", "b"], [None, None])},
    **{f"rows={value!r}": _set("state", "rows", to=value) for value in ([], None, [{}], [{"epoch": 1, "member": 0}], "rows", [[1]])},
    "rows of another run": lambda saved: saved["state"].update(rows=saved["state"]["rows"][:-1]),
    "a cost of text": _set("state", "rows", 0, "cost", to="low"),
    "a member of 9": _set("state", "rows", 0, "member", to=9),
    **{f"threads={value!r}": _set("state", "threads", to=value) for value in (0, 10**6, "all", None, True)},
    **{f"products={value!r}": _set("state", "products", to=value) for value in ("abacus", None, 3, ["torch"])},
    **{f"generators={value!r}": _set("state", "generators", to=value) for value in ([], None, [1, 2], "ab")},
    "generators cut": lambda saved: saved["state"].update(generators=[value[:9] for value in saved["state"]["generators"]]),
    "generators of zeros": lambda saved: saved["state"].update(generators=[value * 0 for value in saved["state"]["generators"]]),
    "parameters in half precision": _each_parameter(torch.Tensor.half),
    "parameters in double precision": _each_parameter(torch.Tensor.double),
    "parameters of one number": _each_parameter(lambda value: value.flatten()[0]),
    "parameters of one member more": _each_parameter(lambda value: torch.cat([value, value[:1]])),
    "parameters of text": _set("state", "parameters", to={"weight": "heavy"}),
    "parameters of another name": lambda saved: saved["state"].update(parameters={"w": torch.ones(2)}),
    "averages cut": _each_average(lambda value: value[..., :1]),
    "averages of text": _each_average(lambda _: "average"),
    **{f"optimizer={value!r}": _set("state", "optimizer", to=value) for value in (None, {}, {"state": {}, "param_groups": []}, "Adam")},
}  # fmt: skip
