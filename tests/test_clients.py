"""Other people's code around the optimizers: each client trains with ours and with torch's, and the parameters must agree.

A client that is not installed is skipped; `pip install -e '.[clients]'` installs all of them.
"""

import copy
import tempfile
from collections.abc import Callable, Iterable
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn

import optim

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]  # what clients warn of is theirs

# float32, a dozen steps: the two agree to rounding, a few units of 1.2e-7.
CLOSE = dict(rtol=2e-6, atol=2e-6)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(32, 3, generator=torch.Generator().manual_seed(1))
    return inputs, inputs.sum(1, keepdim=True).sin()


def loader() -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*examples()), batch_size=8)


def learn(model: nn.Module, optimizer, steps: int) -> None:
    inputs, targets = examples()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()


def assert_same(*models: nn.Module) -> None:
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def ours_and_torchs(train: Callable[[type], nn.Module]) -> None:
    """Trains with each and compares; `train` gets the class and returns the trained model."""
    models = [train(optimizer) for optimizer in (optim.Adam, torch.optim.Adam)]
    assert_same(*models)
    start = network()
    assert any((ours - before).abs().max() > 1e-3 for ours, before in zip(models[0].parameters(), start.parameters(), strict=True))


@pytest.mark.parametrize("scaled", [False, True])
def test_lightning(scaled, tmp_path):
    """With clipping, under a GradScaler, and with our schedule in the place of torch's of the same factors."""
    lightning = pytest.importorskip("lightning")
    from lightning.pytorch.plugins import MixedPrecision

    class Module(lightning.LightningModule):
        def __init__(self, optimizer):
            super().__init__()
            self.model, self.optimizer = network(), optimizer

        def training_step(self, batch, _):
            inputs, targets = batch
            return nn.functional.mse_loss(self.model(inputs).float(), targets)

        def configure_optimizers(self):
            optimizer = self.optimizer(self.parameters(), lr=0.01)
            if self.optimizer is optim.Adam:
                return [optimizer], [optim.InverseSqrt(optimizer)]
            return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: (epoch + 1) ** -0.5)]

    def train(optimizer):
        module = Module(optimizer)
        plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))] if scaled else None
        quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        trainer = lightning.Trainer(
            max_epochs=3, accelerator="cpu", gradient_clip_val=0.5, plugins=plugins, default_root_dir=tmp_path, **quiet
        )
        trainer.fit(module, loader())
        return module.model

    ours_and_torchs(train)


def test_accelerate():
    accelerate = pytest.importorskip("accelerate")

    def train(optimizer):
        accelerator = accelerate.Accelerator(cpu=True)
        model = network()
        machine = optimizer(model.parameters(), lr=0.01)
        model, machine, batches = accelerator.prepare(model, machine, loader())
        for inputs, targets in batches:
            machine.zero_grad()
            accelerator.backward(nn.functional.mse_loss(model(inputs), targets))
            accelerator.clip_grad_norm_(model.parameters(), 0.5)
            machine.step()
            assert not machine.step_was_skipped
        return model

    ours_and_torchs(train)


def test_accelerate_knows_which_steps_were_skipped():
    accelerate = pytest.importorskip("accelerate")
    accelerate.Accelerator(cpu=True)
    for make in (optim.Adam, torch.optim.Adam):
        theta = torch.ones(1, requires_grad=True)
        scaler, seen = torch.amp.GradScaler("cpu", init_scale=4.0), []
        machine = make([theta], lr=0.25)
        machine.register_step_post_hook(lambda *_, seen=seen, theta=theta: seen.append(theta.grad.item()))
        wrapped = accelerate.optimizer.AcceleratedOptimizer(machine, scaler=scaler)
        skipped = []
        for factor in (1.0, float("inf"), 1.0):
            wrapped.zero_grad()
            scaler.scale((theta * factor).sum()).backward()
            wrapped.step()
            skipped.append(wrapped.step_was_skipped)
        assert skipped == [False, True, False]
        assert seen == [1.0, 1.0]  # hooks see unscaled gradients, of the steps that were made


def test_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network()

        def forward(self, inputs, targets):
            return {"loss": nn.functional.mse_loss(self.model(inputs), targets)}

    rows = [{"inputs": inputs, "targets": targets} for inputs, targets in zip(*examples(), strict=True)]

    def train(optimizer):
        model = Model()
        machine = optimizer(model.parameters(), lr=0.01)
        settings = transformers.TrainingArguments(
            output_dir=str(tmp_path / optimizer.__module__),
            max_steps=8,
            save_steps=4,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=0,
        )
        schedule = transformers.get_linear_schedule_with_warmup(machine, 2, 8)
        transformers.Trainer(model, settings, train_dataset=rows, optimizers=(machine, schedule)).train()
        resumed = Model()
        machine = optimizer(resumed.parameters(), lr=0.01)
        schedule = transformers.get_linear_schedule_with_warmup(machine, 2, 8)
        trainer = transformers.Trainer(resumed, settings, train_dataset=rows, optimizers=(machine, schedule))
        trainer.train(resume_from_checkpoint=f"{settings.output_dir}/checkpoint-4")
        assert_same(model, resumed)
        return model.model

    ours_and_torchs(train)


def test_skorch(tmp_path):
    skorch = pytest.importorskip("skorch")

    def train(optimizer):
        torch.manual_seed(0)
        inputs, targets = (values.numpy() for values in examples())
        settings = dict(optimizer=optimizer, optimizer__lr=0.01, optimizer__betas=[0.8, 0.99], train_split=None, verbose=0, max_epochs=3)
        net = skorch.NeuralNetRegressor(network(), **settings).fit(inputs, targets)
        second = skorch.NeuralNetRegressor(network(), **settings).initialize()
        for act in (net.save_params, second.load_params):
            act(f_params=tmp_path / "parameters", f_optimizer=tmp_path / "optimizer")
        net.partial_fit(inputs, targets)
        second.partial_fit(inputs, targets)
        assert_same(net.module_, second.module_)
        return net.module_

    ours_and_torchs(train)


@pytest.mark.parametrize("optimizer", [optim.Adam, optim.AdaMax, optim.LpAdam, optim.RMSProp], ids=lambda cls: cls.__name__)
def test_jsonargparse(optimizer):
    """Also what LightningCLI builds optimizers with; every argument and option is known by its name and type."""
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--optimizer", type=Callable[[Iterable], torch.optim.Optimizer])
    chosen = {"lr": "0.5", "weight_decay": "0.25", "maximize": "true", "stochastic_rounding": "true"}
    arguments = [f"--optimizer=optim.{optimizer.__name__}", *(f"--optimizer.{key}={value}" for key, value in chosen.items())]
    machine = parser.instantiate_classes(parser.parse_args(arguments)).optimizer(network().parameters())
    assert type(machine) is optimizer
    settings = machine.settings(machine.param_groups[0])
    assert [settings[key] for key in chosen] == [0.5, 0.25, True, True]
    with pytest.raises(Exception, match="weight_decai"):
        parser.parse_args([*arguments, "--optimizer.weight_decai=1"])


def test_timm():
    pytest.importorskip("timm")
    from timm.optim import Lookahead, param_groups_weight_decay
    from timm.scheduler import CosineLRScheduler

    def train(optimizer):
        model = network()
        machine = Lookahead(optimizer(param_groups_weight_decay(model, 0.05), lr=0.01))
        schedule = CosineLRScheduler(machine, t_initial=10, warmup_t=2)
        for epoch in range(10):
            learn(model, machine, 2)
            schedule.step(epoch + 1)
        return model

    ours_and_torchs(train)


def test_schedulefree():
    """Around SGD: the wrapper puts a state of its own beside the optimizer's, after which torch's Adam does not start."""
    schedulefree = pytest.importorskip("schedulefree")

    def train(optimizer, **arguments):
        model = network()
        machine = schedulefree.ScheduleFreeWrapper(optimizer(model.parameters(), lr=0.01, **arguments), momentum=0.9)
        machine.train()
        learn(model, machine, 10)
        machine.load_state_dict(copy.deepcopy(machine.state_dict()))
        learn(model, machine, 5)
        machine.eval()
        return model

    assert_same(train(optim.SGDNesterov, momentum=0.5), train(torch.optim.SGD, momentum=0.5, nesterov=True))
    with pytest.raises(AssertionError):
        assert_same(train(optim.Adam), network())


def test_swa_utils():
    """torch's own average of the model and ours of the optimizer, weights and buffers."""
    model = nn.Sequential(nn.BatchNorm1d(3), network())
    machine = optim.Adam(model.parameters(), lr=0.01)
    theirs = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    average = optim.PolyakRuppert(machine, buffers=model.buffers())
    for _ in range(5):
        learn(model, machine, 1)
        theirs.update_parameters(model)
    with average.swapped_in():
        assert_same(model, theirs.module)
        torch.testing.assert_close(model[0].running_mean, theirs.module[0].running_mean, **CLOSE)


@pytest.fixture
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


PAIRS = {
    "Adam": (optim.Adam, torch.optim.Adam),
    "AdamW": (optim.Adam, torch.optim.AdamW),
    "AdaMax": (optim.AdaMax, torch.optim.Adamax),
    "AdaGrad": (optim.AdaGrad, partial(torch.optim.Adagrad, initial_accumulator_value=0.1)),
    "AdaDelta": (optim.AdaDelta, torch.optim.Adadelta),
    "RMSProp": (optim.RMSProp, torch.optim.RMSprop),
    "RMSProp with momentum": (partial(optim.RMSProp, momentum=0.5), partial(torch.optim.RMSprop, momentum=0.5)),
    "SGDNesterov": (optim.SGDNesterov, partial(torch.optim.SGD, momentum=0.9, nesterov=True)),
}


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_distributed_checkpoints(name, flat, process_group):
    """Of ours by torch's, of torch's by ours, and of ours by ours."""
    import torch.distributed.checkpoint as checkpoints
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict

    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    ours, torchs = PAIRS[name]
    for saver, loader in ((ours, torchs), (torchs, ours), (ours, ours)):
        model, resumed = network(), network()
        machine = saver(model.parameters(), lr=0.02)
        learn(model, machine, 3)
        resumed.load_state_dict(model.state_dict())
        second = loader(resumed.parameters(), lr=0.5)
        with tempfile.TemporaryDirectory() as folder:
            saved = {"optimizer": get_optimizer_state_dict(model, machine, options=options)}
            checkpoints.save(saved, checkpoint_id=folder, no_dist=True)
            loaded = {"optimizer": get_optimizer_state_dict(resumed, second, options=options)}
            checkpoints.load(loaded, checkpoint_id=folder, no_dist=True)
        set_optimizer_state_dict(resumed, second, loaded["optimizer"], options=options)
        learn(model, machine, 3)
        learn(resumed, second, 3)
        assert_same(model, resumed)


def test_zero(process_group):
    from torch.distributed.optim import ZeroRedundancyOptimizer

    def train(optimizer):
        model, resumed = network(), network()
        machine = ZeroRedundancyOptimizer(model.parameters(), optimizer, lr=0.01)
        learn(model, machine, 5)
        resumed.load_state_dict(model.state_dict())
        machine.consolidate_state_dict()
        second = ZeroRedundancyOptimizer(resumed.parameters(), optimizer, lr=0.5)
        second.load_state_dict(copy.deepcopy(machine.state_dict()))
        learn(model, machine, 5)
        learn(resumed, second, 5)
        assert_same(model, resumed)
        return model

    ours_and_torchs(train)


@pytest.mark.parametrize("choice", [{}, dict(foreach=True), dict(fused=False)])
def test_bfloat16_with_stochastic_rounding_on_dtensors(choice, process_group):
    """A DTensor moves as its local shard: to the bit as an ordinary parameter."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    start = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    plain, sharded = start.clone().requires_grad_(), nn.Parameter(distribute_tensor(start.clone(), mesh, [Shard(0)]))
    machines = [optim.Adam([theta], lr=2.0**-9, stochastic_rounding=True, **choice) for theta in (plain, sharded)]
    for step in range(5):
        plain.grad = torch.randn(8, 5, generator=torch.Generator().manual_seed(step)).bfloat16()
        sharded.grad = distribute_tensor(plain.grad, mesh, [Shard(0)])
        for machine in machines:
            machine.step()
    assert torch.equal(sharded.full_tensor(), plain)
    assert isinstance(machines[1].state[sharded]["exp_avg"], DTensor)
    assert machines[1].state[sharded]["exp_avg"].dtype == torch.float32


def _two_processes(rank: int, folder: str) -> None:
    """One of two processes that share a model."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", 2), rank=rank, world_size=2)
    # A gradient overflows in the first process only: neither steps. Adam moves by lr where gradients do not change.
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    machine, scaler = optim.Adam([theta], lr=0.25, fused=True), ShardedGradScaler(device="cpu", init_scale=4.0)
    for step in range(3):
        machine.zero_grad()
        scaler.scale((theta * (float("inf") if (rank, step) == (0, 1) else 1.0)).sum()).backward()
        scaler.step(machine)
        scaler.update()
    assert theta.item() == pytest.approx(0.5, rel=1e-6)
    assert machine.state[theta]["step"] == 2

    # FSDP1 around a model: a loss overflows in the second process only.
    sharded = [FullyShardedDataParallel(network(), device_id=torch.device("cpu"), use_orig_params=True) for _ in range(2)]
    for model, make in zip(sharded, (optim.Adam, torch.optim.Adam), strict=True):
        machine, scaler = make(model.parameters(), lr=0.01), ShardedGradScaler(device="cpu", init_scale=4.0)
        for step in range(4):
            machine.zero_grad()
            loss = model(examples()[0]).square().mean() * (float("inf") if (rank, step) == (1, 1) else 1.0)
            scaler.scale(loss).backward()
            scaler.step(machine)
            scaler.update()
        assert {values["step"].item() for values in machine.state.values()} == {3}
    assert_same(*sharded)

    models = [network() for _ in range(3)]
    for model in models[:2]:
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    for model, optimizer in zip(models, (optim.Adam, torch.optim.Adam, optim.Adam), strict=True):
        learn(model, optimizer(model.parameters(), lr=0.01), 5)
    whole = [[p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()] for model in models]
    for ours, torchs, alone in zip(*whole, strict=True):
        torch.testing.assert_close(ours, torchs, **CLOSE)
        torch.testing.assert_close(ours, alone, **CLOSE)

    # Sharded checkpoints, nested and flattened: ours by torch's, torch's by ours.
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict

    mesh = init_device_mesh("cpu", (2,))
    for number, (saving, loading) in enumerate(((optim.Adam, torch.optim.Adam), (torch.optim.Adam, optim.Adam)) * 2):
        options = StateDictOptions(flatten_optimizer_state_dict=number > 1)
        trained, continued = (fully_shard(network(), mesh=mesh) for _ in range(2))
        machine, other = saving(trained.parameters(), lr=0.01), loading(continued.parameters(), lr=0.01)
        learn(trained, machine, 4)
        learn(continued, other, 1)  # which the checkpoint replaces
        saved = {"model": trained.state_dict(), "optimizer": get_optimizer_state_dict(trained, machine, options=options)}
        checkpoint.save(saved, checkpoint_id=f"{folder}/{number}")
        read = {"model": continued.state_dict(), "optimizer": get_optimizer_state_dict(continued, other, options=options)}
        checkpoint.load(read, checkpoint_id=f"{folder}/{number}")
        continued.load_state_dict(read["model"])
        set_optimizer_state_dict(continued, other, read["optimizer"], options=options)
        learn(trained, machine, 3)
        learn(continued, other, 3)
        for parameter, same in zip(trained.parameters(), continued.parameters(), strict=True):
            torch.testing.assert_close(parameter.full_tensor(), same.full_tensor(), **CLOSE)

    # Replicas round alike, shards by noise of their own.
    model = network().bfloat16()
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    machine = optim.SGDNesterov(model.parameters(), lr=2.0**-10, momentum=0.0, stochastic_rounding=True)
    weight = model[0].weight
    weight.data.fill_(1.0)
    weight.grad = torch.full_like(weight, -1.0)
    machine.step()
    moved = (weight.full_tensor() > 1).view(2, -1)
    assert moved.any()
    assert not torch.equal(*moved)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes(tmp_path):
    """A sharded scaler, sharded models, stochastic rounding of shards. Forked: processes that import torch take half a minute."""
    import torch.distributed.fsdp  # once, for both

    torch.multiprocessing.start_processes(_two_processes, (str(tmp_path),), nprocs=2, start_method="fork")
