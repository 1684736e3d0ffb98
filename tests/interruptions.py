"""A model that fails in the middle of training."""


class Interrupted(Exception):
    """Stands for a kill."""


def interrupted_after(steps: int, model):
    """The model, which fails after so many minibatches."""
    original, seen = model.differentiate, []

    def failing(*arguments):
        seen.append(1)
        if len(seen) > steps:
            raise Interrupted
        return original(*arguments)

    model.differentiate = failing
    return model
