"""Training: populations against solo runs, costs against their definition, randomness that depends on the seed alone."""

import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import optim
from data.tensor_files import load_tensors, save_tensors
from experiments.models.convolutional_network import ConvolutionalNetwork
from experiments.models.layers import dropout
from experiments.models.logistic_regression import LogisticRegression
from experiments.models.multilayer_network import MultilayerNetwork
from experiments.models.variational_autoencoder import VariationalAutoencoder
from experiments.training import checkpoints
from experiments.training.checkpoints import Checkpoint
from experiments.training.graphs import StepGraphs
from experiments.training.loop import seconds_per_epoch, train
from experiments.training.plan import Plan, Training
from experiments.training.streams import example_order, generator
from interruptions import Interrupted, interrupted_after
from tamperings import TAMPERINGS

CPU = torch.device("cpu")
PLAN = Plan(epochs=3, batch_size=32, schedule="inverse_sqrt_epoch")  # 300 examples: the last minibatch has 12


def run(dataset, make, seeds=(0,), per_seed=1, plan=PLAN, **options) -> pd.DataFrame:
    model = LogisticRegression(dataset.train.inputs.shape[1], dataset.classes, **options)
    return train(Training(model, make, dataset, seeds, per_seed, plan, CPU))[0]


def adam(lr):
    return lambda parameters: optim.Adam(parameters, lr=lr)


@pytest.fixture(params=["images", "words"])
def dataset(request):
    return request.getfixturevalue(request.param)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(dataset):
    first, again, other = (run(dataset, adam(0.01), [seed], dropout=0.5)["cost"].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_seed_0_is_a_seed():
    draws = [torch.rand(3, generator=generator(0, "noise")).tolist() for _ in range(2)]
    assert draws[0] == draws[1]
    purposes = {
        tuple(torch.rand(3, generator=generator(0, purpose)).tolist()) for purpose in ("initial parameters", "order of data", "noise")
    }
    assert len(purposes) == 3


def test_every_epoch_visits_every_example_once_in_a_new_order():
    order = [generator(seed, "order of data") for seed in (0, 1)]
    epochs = [list(example_order(300, order, CPU).split(32, 1)) for _ in range(2)]
    assert [batch.shape for batch in epochs[0]] == [(2, 32)] * 9 + [(2, 12)]
    visited = [torch.cat(batches, 1) for batches in epochs]
    for one_epoch in visited:
        for stream in one_epoch:
            assert stream.sort().values.tolist() == list(range(300))
    assert not torch.equal(visited[0], visited[1])
    assert not torch.equal(visited[0][0], visited[0][1])


def test_all_optimizers_of_a_panel_start_from_the_same_weights_and_see_the_same_data(images):
    """With a step size of 0 nothing else can tell them apart."""
    plan = Plan(epochs=2, batch_size=32, schedule="constant")
    costs = {
        cls.__name__: run(images, lambda p, cls=cls: cls(p, lr=0.0), [3], plan=plan, initial_std=0.3, dropout=0.5)["cost"].tolist()
        for cls in (optim.Adam, optim.AdaMax, optim.AdaGrad, optim.SGDNesterov, optim.RMSProp, torch.optim.NAdam)
    }
    assert len({tuple(values) for values in costs.values()}) == 1
    assert costs["Adam"][0] != costs["Adam"][1]  # another epoch, other noise


def test_cost_is_the_sum_over_examples_divided_by_their_number(dataset):
    """Weights that do not move: the running mean is the mean over all examples, short last minibatch included."""
    plan = Plan(epochs=1, batch_size=32, schedule="constant")
    row = run(dataset, adam(0.0), plan=plan, initial_std=0.5, l2=0.1).iloc[0]
    model = LogisticRegression(dataset.train.inputs.shape[1], dataset.classes, initial_std=0.5)
    weight = model.initial_parameters(generator(0, "initial parameters"))["weight"].double().numpy()
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        rows = split.inputs.matrix.toarray() if hasattr(split.inputs, "matrix") else split.inputs.values.numpy() / 255
        scores = rows @ weight.T
        if dataset.classes == 2:
            scores = np.hstack([np.zeros_like(scores), scores])
        truth = split.targets.numpy()
        losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(len(truth)), truth]
        assert row[f"{part}_cost"] == pytest.approx(losses.mean(), rel=1e-6)
        assert row[f"{part}_error"] == pytest.approx((scores.argmax(1) != truth).mean(), rel=1e-6)
    assert row["cost"] == pytest.approx(row["train_cost"], rel=1e-6)
    assert row["penalty"] == pytest.approx(0.05 * (weight**2).sum(), rel=1e-6)


def test_dropout_keeps_the_mean_and_drops_the_right_share(images, words):
    for data, rate in ((images, 0.5), (words, 0.25)):
        batch = data.train.inputs.take(torch.arange(300).repeat(2, 1))
        before = batch if isinstance(batch, torch.Tensor) else torch.from_numpy(batch.blocks.data.copy())
        after = dropout(batch, rate, [generator(seed, "noise") for seed in (0, 1)])
        after = after if isinstance(after, torch.Tensor) else torch.from_numpy(after.blocks.data)
        kept = after[before != 0] != 0
        # within five standard deviations
        assert kept.float().mean() == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / len(kept)) ** 0.5)
        np.testing.assert_allclose(after[after != 0], before[after != 0] / (1 - rate), rtol=1e-6)


def test_schedules_count_steps_or_epochs(images):
    plans = {name: Plan(epochs=3, batch_size=100, schedule=name) for name in ("constant", "inverse_sqrt_step", "inverse_sqrt_epoch")}
    plans["exponential_epoch"] = Plan(epochs=3, batch_size=100, schedule="exponential_epoch", decay=0.5)
    steps = {name: [] for name in plans}
    for name, plan in plans.items():

        class Spy(optim.Adam):
            def step(self, closure=None, log=steps[name]):
                log.append(self.param_groups[0]["lr"])

        run(images, lambda p, spy=Spy: spy(p, lr=1.0), plan=plan)
    root = np.sqrt
    assert steps["constant"] == [1.0] * 9
    np.testing.assert_allclose(steps["inverse_sqrt_step"], [1 / root(t) for t in range(1, 10)], rtol=1e-12)
    np.testing.assert_allclose(steps["inverse_sqrt_epoch"], [1 / root(t) for t in (1, 1, 1, 2, 2, 2, 3, 3, 3)], rtol=1e-12)
    np.testing.assert_allclose(steps["exponential_epoch"], [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25], rtol=1e-12)
    with pytest.raises(ValueError, match="decay=0.9 has no effect with schedule"):
        Plan(epochs=1, batch_size=1, schedule="constant", decay=0.9)


def test_evaluation_can_be_rare(images):
    table = run(images, adam(0.01), plan=Plan(epochs=5, batch_size=100, schedule="constant", evaluate_every=2))
    assert table["test_cost"].notna().tolist() == [False, True, False, True, True]
    assert table["cost"].notna().all()


def test_logistic_regression_finds_the_minimum_that_scikit_learn_finds(words):
    from sklearn.linear_model import LogisticRegression as Reference

    plan = Plan(epochs=400, batch_size=300, schedule="constant", evaluate_every=400)
    found = run(words, lambda p: optim.SGDNesterov(p, lr=1.0), plan=plan, l2=0.01).iloc[-1]
    # scikit-learn minimises C * sum of losses + |w|^2 / 2: C = 1 / (l2 * examples)
    reference = Reference(C=1 / (0.01 * 300), tol=1e-10, max_iter=10_000).fit(words.train.inputs.matrix, words.train.targets)
    probabilities = reference.predict_proba(words.train.inputs.matrix)[np.arange(300), words.train.targets.numpy()]
    assert found["train_cost"] == pytest.approx(-np.log(probabilities).mean(), rel=1e-4)
    assert found["penalty"] == pytest.approx(0.005 * (reference.coef_**2).sum(), rel=1e-3)


def test_a_wrong_plan_is_named():
    with pytest.raises(ValueError, match="epochs=0 is invalid: expected a whole number above 0"):
        Plan(epochs=0, batch_size=1, schedule="constant")


@pytest.mark.gpu
def test_on_a_gpu_the_costs_are_those_of_the_cpu(dataset):
    device = torch.device("cuda")
    model = LogisticRegression(dataset.train.inputs.shape[1], dataset.classes, l2=1e-3)
    on_gpu = train(Training(model, adam(0.01), dataset.to(device), [0, 1], 1, PLAN, device))[0]
    # the same order of data, sums in another order
    pd.testing.assert_frame_equal(on_gpu, run(dataset, adam(0.01), [0, 1], l2=1e-3), rtol=1e-4)


def test_a_step_is_recorded_after_three_and_once_for_each_shape_of_minibatch(monkeypatch):
    """With a recorder that needs no GPU: replaying does what was recorded, to the index as it is then."""
    recorded = []

    class Replayed:
        def __init__(self, step, held, result):
            self.step, self.held, self.result = step, held, result

        def replay(self):
            self.result.copy_(self.step(self.held))

    def record(self, step, index):
        recorded.append(tuple(index.shape))
        held = index.clone()
        result = torch.zeros(1)
        return Replayed(step, held, result), held, result

    monkeypatch.setattr(StepGraphs, "_record", record)
    graphs, taken = StepGraphs([]), []

    def step(index):
        taken.append(index.tolist())
        return index.sum().reshape(1).float()

    for number in range(6):
        assert graphs.take(step, torch.tensor([number, 1])).item() == number + 1
    assert graphs.take(step, torch.tensor([5])).item() == 5  # another shape: not recorded yet
    assert taken == [[0, 1], [1, 1], [2, 1], [3, 1], [4, 1], [5, 1], [5]]
    assert recorded == [(2,)]
    graphs.forget()
    for number in range(4):
        graphs.take(step, torch.tensor([number, 2]))
    assert recorded == [(2,), (2,)]


@pytest.mark.gpu
@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt_step", "inverse_sqrt_epoch", "exponential_epoch"])
@pytest.mark.parametrize("case", ["population", "seeds", "diverging", "autoencoder", "convolutional", "bfloat16", "lists"])
def test_on_a_gpu_replayed_steps_are_those_taken_one_operation_after_another(images, schedule, case, monkeypatch, tmp_path):
    """With dropout or draws of a latent variable, short last minibatches, and once more after an interruption."""
    device, recorded = torch.device("cuda"), []
    record = StepGraphs._record
    monkeypatch.setattr(StepGraphs, "_record", lambda self, *step: recorded.append(step) or record(self, *step))
    model = MultilayerNetwork(12, 3, hidden=20, dropout=0.5, input_dropout=0.2)
    if case == "autoencoder":
        model = VariationalAutoencoder(12, 3)
    elif case == "convolutional":
        model = ConvolutionalNetwork(12, 3, channels=(4,), hidden=20, dropout=0.5, input_dropout=0.2)
    lr = 1e-2 if case == "seeds" else torch.tensor([1e-3, 1e38 if case == "diverging" else 1e-4, 1e-2], dtype=torch.float64, device=device)
    beta1 = torch.tensor([0.0, 0.9, 0.5], dtype=torch.float64, device=device) if case == "population" else 0.9
    seeds, per_seed = ([0, 1], 1) if case == "seeds" else ([0], 3)
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})

    def go(cuda_graph, model=model, checkpoint=None):
        precision = "bfloat16" if case == "bfloat16" else "float32"
        plan = Plan(epochs=6, batch_size=32, schedule=schedule, cuda_graph=cuda_graph, precision=precision)

        def make(p):
            return optim.Adam(p, lr=lr, beta1=beta1, foreach=True if case == "lists" else None)

        return train(Training(model, make, images.to(device), seeds, per_seed, plan, device), checkpoint=checkpoint)[0]

    eager = go(False)
    assert not recorded
    pd.testing.assert_frame_equal(go(True), eager, check_exact=True)
    assert recorded
    with pytest.raises(Interrupted):
        go(False, interrupted_after(25, model), checkpoint)  # in the third epoch
    pd.testing.assert_frame_equal(go(True, model, checkpoint), eager, check_exact=True)


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt_step", "inverse_sqrt_epoch", "exponential_epoch"])
@pytest.mark.parametrize("make", [optim.Adam, optim.AdaMax, torch.optim.NAdam])
def test_interrupted_and_resumed_is_the_same_to_the_bit(images, tmp_path, make, schedule):
    """Cut in the middle of the third epoch, and again in the fifth."""
    plan = Plan(epochs=6, batch_size=32, schedule=schedule, evaluate_every=2, decay=0.9 if schedule == "exponential_epoch" else 1.0)
    checkpoint = Checkpoint(tmp_path / "checkpoint", {"lr": 0.01})
    lrs = torch.tensor([1e-3, 1e-2] * 2, dtype=torch.float64)
    seeds, per_seed, lr = ([0, 7], 2, lrs) if issubclass(make, optim.RuleOptimizer) else ([3], 1, 0.01)

    def model():
        return LogisticRegression(12, 3, dropout=0.25, initial_std=0.1)

    def go(model, checkpoint):
        return train(Training(model, lambda p: make(p, lr=lr), images, seeds, per_seed, plan, CPU), checkpoint=checkpoint)[0]

    whole = go(model(), None)
    assert checkpoint.epochs() == 0
    for losses in (25, 25):
        with pytest.raises(Interrupted):
            go(interrupted_after(losses, model()), checkpoint)
    assert checkpoint.epochs() > 0
    pd.testing.assert_frame_equal(go(model(), checkpoint), whole, check_exact=True)
    pd.testing.assert_frame_equal(go(interrupted_after(0, model()), checkpoint), whole, check_exact=True)  # nothing is left to do


@pytest.mark.parametrize("network", [MultilayerNetwork, partial(ConvolutionalNetwork, channels=(4,))])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_with_dropout_goes_on_to_the_bit_with_its_second_moments(images, tmp_path, network, precision):
    plan = Plan(epochs=4, batch_size=32, schedule="constant", second_moments=True, precision=precision)
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})

    def model():
        return network(12, 3, hidden=20, dropout=0.5, input_dropout=0.2)

    def go(model, checkpoint=None):
        return train(Training(model, adam(1e-3), images, [0], 1, plan, CPU), checkpoint=checkpoint)[0]

    with pytest.raises(Interrupted):
        go(interrupted_after(25, model()), checkpoint)
    assert checkpoint.epochs() == 2
    whole = go(model())
    pd.testing.assert_frame_equal(go(model(), checkpoint), whole, check_exact=True)
    assert (whole.filter(like="vhat_").nunique() == 4).any()


def test_a_diverged_member_is_recorded_dropped_and_disturbs_nobody(images, tmp_path):
    lrs = [1e-2, 1e38, 1e-3]
    plan = Plan(epochs=4, batch_size=32, schedule="inverse_sqrt_epoch")
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    seen = []

    class Watched(LogisticRegression):
        def differentiate(self, parameters, *others):
            seen.append(len(parameters["weight"]))
            return super().differentiate(parameters, *others)

    def go(lr, model, checkpoint=None):
        lr = torch.tensor(lr, dtype=torch.float64)
        return train(Training(model, lambda p: optim.SGDNesterov(p, lr=lr), images, [0], len(lr), plan, CPU), checkpoint=checkpoint)[0]

    table = go(lrs, Watched(12, 3))
    assert seen[0] == 3
    assert seen[-1] == 2
    assert len(table) == 12
    assert not np.isfinite(table.loc[table["member"] == 1, "cost"]).any()
    others = table[table["member"] != 1].assign(member=lambda t: t["member"] // 2).reset_index(drop=True)
    pd.testing.assert_frame_equal(others, go([1e-2, 1e-3], Watched(12, 3)), rtol=1e-6)
    with pytest.raises(Interrupted):
        go(lrs, interrupted_after(25, LogisticRegression(12, 3)), checkpoint)
    pd.testing.assert_frame_equal(go(lrs, LogisticRegression(12, 3), checkpoint), table, check_exact=True)


def test_where_all_members_have_diverged_nothing_more_is_done(images):
    plan = Plan(epochs=3, batch_size=32, schedule="constant")
    table = run(images, lambda p: optim.SGDNesterov(p, lr=1e38), plan=plan)
    assert table["epoch"].tolist() == [1, 2, 3]
    assert not np.isfinite(table["cost"]).any()


def test_a_shard_whose_members_have_all_diverged_can_be_gone_on_with(images, tmp_path):
    """Step sizes are one per member; the checkpoint is that of the first of two epochs, after which nobody is left."""
    checkpoint, plan = Checkpoint(tmp_path / "checkpoint", {}), Plan(epochs=2, batch_size=32, schedule="constant")
    make = adam(torch.tensor([1e38, 2e38], dtype=torch.float64))
    model = LogisticRegression(12, 3)
    once = train(Training(model, make, images, [0], 2, Plan(epochs=1, batch_size=32, schedule="constant"), CPU), checkpoint=checkpoint)[0]
    assert not np.isfinite(once["cost"]).any()
    assert checkpoint.load()["alive"] == []
    both = train(Training(model, make, images, [0], 2, plan, CPU), checkpoint=checkpoint)[0]
    assert both["epoch"].tolist() == [1, 1, 2, 2]


def test_a_checkpoint_of_another_configuration_is_not_used(tmp_path):
    checkpoint = Checkpoint(tmp_path / "folder" / "checkpoint", {"lr": 1})
    assert checkpoint.load() is None
    checkpoint.save({"epochs": 3})
    assert checkpoint.load() == {"epochs": 3}
    assert Checkpoint(checkpoint.path, {"lr": 2}).load() is None


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path, capsys):
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    for epochs in (1, 2, 3):
        checkpoint.save({"epochs": epochs})
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:100])
    assert checkpoint.epochs() == 2
    assert capsys.readouterr().out == ""
    assert checkpoint.load() == {"epochs": 2}
    reason, consequence = "its content does not match its digest", "training resumes from the checkpoint before it, of epoch 2"
    assert capsys.readouterr().out == f"{checkpoint.path} is damaged: {reason}; {consequence}\n"
    assert checkpoint.load() == {"epochs": 2}
    assert capsys.readouterr().out == ""
    checkpoint.path.write_bytes(b"")
    with pytest.raises(OSError, match=r"checkpoint is damaged: .*; remove checkpoint\* to start again"):
        checkpoint.load()


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_before_or_between_the_renames_leaves_the_checkpoint_before(tmp_path, monkeypatch, renames):
    checkpoint, replace, done = Checkpoint(tmp_path / "checkpoint", {}), os.replace, []
    checkpoint.save({"epochs": 1})

    def killed(*paths):
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(replace(*paths))

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save({"epochs": 2})
    monkeypatch.undo()
    assert Checkpoint(checkpoint.path, {}).load() == {"epochs": 1}


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    checkpoint.save({"epochs": 1})

    def full(value, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_tensors", full)
    with pytest.raises(OSError, match=r"cannot write .*checkpoint \(No space left on device\): make room"):
        checkpoint.save({"epochs": 2})
    assert checkpoint.load() == {"epochs": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("numbers", [1, 10**6])
def test_a_full_disk_is_an_os_error(numbers):
    with pytest.raises(OSError, match="No space left on device"):
        save_tensors(torch.ones(numbers), Path("/dev/full"))


@pytest.mark.parametrize("change", TAMPERINGS)
def test_a_checkpoint_that_was_tampered_with_is_refused_in_one_sentence(images, tmp_path, change):
    """With a new digest, so that only its structure tells; what remains possible has the same numbers."""
    plan, checkpoint = Plan(epochs=3, batch_size=100, schedule="constant"), Checkpoint(tmp_path / "checkpoint", {})
    make = adam(torch.tensor([1e-3, 1e-2], dtype=torch.float64))

    def go(model, checkpoint=None):
        return train(Training(model, make, images, [0], 2, plan, CPU), checkpoint=checkpoint)[0]

    whole = go(LogisticRegression(12, 3, dropout=0.25))
    with pytest.raises(Interrupted):
        go(interrupted_after(7, LogisticRegression(12, 3, dropout=0.25)), checkpoint)
    saved = load_tensors(checkpoint.path)
    other = TAMPERINGS[change](saved)
    save_tensors(saved if other is None else other, checkpoint.path)
    checkpoint.previous.unlink()
    try:
        resumed, sentence = go(LogisticRegression(12, 3, dropout=0.25), checkpoint), None
    except OSError as error:
        resumed, sentence = None, str(error)
    if resumed is None:
        expected = r"\S+checkpoint (is damaged|does not fit the run): [^\n]{5,300}; remove checkpoint\* to start again"
        assert re.fullmatch(expected, sentence)
    else:
        pd.testing.assert_frame_equal(resumed, whole, check_exact=True)


def test_who_only_counts_epochs_leaves_the_checkpoints_where_they_are(images, tmp_path):
    """Another process may be between the two renames of a save, and would lose the newer one."""
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    train(Training(LogisticRegression(12, 3), adam(0.1), images, [0], 1, Plan(2, 100, "constant"), CPU), checkpoint=checkpoint)
    checkpoint.path.unlink()
    assert checkpoint.epochs() == 1
    assert (checkpoint.path.exists(), checkpoint.previous.exists()) == (False, True)


def test_a_forecast_trains_a_few_steps_of_a_copy(images):
    model = interrupted_after(30, LogisticRegression(12, 3))  # an epoch: no forecast takes more steps
    assert seconds_per_epoch(Training(model, adam(0.1), images, [0], 1, Plan(1000, 10, "constant"), CPU)) > 0


def test_second_moments_are_those_of_the_optimizer_corrected_and_compared_with_eps(images):
    model, held, eps = MultilayerNetwork(12, images.classes, hidden=6, layers=1), [], [1e-8, 1e-3]

    def make(parameters):
        held.append(optim.Adam(parameters, lr=1e-3, betas=(0.9, 0.99), eps=torch.tensor(eps, dtype=torch.float64)))
        return held[0]

    plan = Plan(epochs=2, batch_size=32, schedule="constant", evaluate_every=2, second_moments=True)
    table = train(Training(model, make, images, [0], 2, plan, CPU))[0].set_index(["member", "epoch"])
    parameters = held[0].param_groups[0]["params"]
    steps = 2 * 10  # 300 examples
    for member in range(2):
        row = table.loc[(member, 2)]
        for layer, pair in (("layer1", parameters[:2]), ("layer2", parameters[2:])):
            v = np.concatenate([held[0].state[parameter]["exp_avg_sq"][member].double().numpy().ravel() for parameter in pair])
            vhat = np.sort(v / (1 - 0.99**steps))
            assert row[f"vhat_{layer}"] == pytest.approx(vhat[(len(vhat) - 1) // 2], rel=1e-5)  # of an even number, torch takes the lower
            assert row[f"below_eps_{layer}"] == pytest.approx(np.mean(np.sqrt(vhat) < eps[member]), abs=1e-9)
    assert table.loc[(1, 2), "below_eps_layer1"] > table.loc[(0, 2), "below_eps_layer1"]
    assert table["vhat_layer1"].notna().all()  # after every epoch, evaluated or not
    for other in (optim.AdaGrad, partial(optim.Adam, amsgrad=True), partial(optim.Adam, eps_hat=1e-8)):
        assert not any(column.startswith("vhat") for column in train(Training(model, other, images, [0], 1, plan, CPU))[0])


def test_bfloat16_rounds_the_products_of_training_and_nothing_else(images):
    model, plans = (
        MultilayerNetwork(12, images.classes, hidden=20),
        [Plan(1, 32, "constant", precision=name) for name in ("float32", "bfloat16")],
    )
    seen = {"losses": [], "measures": []}
    for name, calls in seen.items():

        def watched(method, calls, *arguments):
            calls.append(torch.is_autocast_enabled("cpu"))
            return method(*arguments)

        setattr(model, name, partial(watched, getattr(model, name), calls))
    exact, rounded = (train(Training(model, adam(1e-3), images, [0], 1, plan, CPU))[0]["cost"].iloc[0] for plan in plans)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=1e-2)  # 8 bits, averaged over 300 examples
    assert (set(seen["losses"][:10]), set(seen["losses"][10:]), set(seen["measures"])) == ({False}, {True}, {False})
    with pytest.raises(ValueError, match="precision=half is invalid: expected one of float32, tf32, bfloat16"):
        Plan(1, 32, "constant", precision="half")
