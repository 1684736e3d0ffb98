"""A model that fails in the middle of training."""


class Interrupted(Exception):
    """Stands for a kill."""


def interrupted_after(losses: int, model):
    """The model, which fails after so many minibatches."""
    original, seen = model.losses, []

    def failing(*arguments):
        seen.append(1)
        if len(seen) > losses:
            raise Interrupted
        return original(*arguments)

    model.losses = failing
    return model
