"""Trains one optimizer on one of the paper's experiments and writes the costs as CSV: see `python run.py --help`."""

import hydra
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import data
from experiments.config import Population, choose_device, make_model, one_sentence_errors, optimizer_class, optimizer_maker, optimizer_name
from experiments.recording import PROJECT, Record
from experiments.training import Plan, train
from optim import RuleOptimizer


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """Hydra's entry: composes the configuration, then runs it."""
    with one_sentence_errors():
        run(cfg)


def run(cfg: DictConfig) -> None:
    """One run, from configuration to CSV."""
    config = OmegaConf.to_container(cfg, resolve=True)
    device = choose_device(config["device"], config["threads"])
    population = Population.of(config)
    plan = Plan(config["passes"], config["batch_size"], config["schedule"], config["evaluate_every"])

    dataset = data.load(**config["data"])
    record = Record(config, optimizer_name(config), HydraConfig.get().job.override_dirname, dataset.source)
    if record.complete and not config["force"]:
        print(f"{shown(record.csv)} is complete (force=true trains again)")
        return

    # Optimizers of our own train all members at once; others, one after another.
    stackable = issubclass(optimizer_class(config), RuleOptimizer)
    dataset, tables, seconds = dataset.to(device), [], 0.0
    for part in [population] if stackable else population.singles():
        model = make_model(config, part, dataset.train.inputs.shape[1], dataset.classes, device)
        maker = optimizer_maker(config, part)
        bar = {"desc": f"{config['experiment']} {optimizer_name(config)}", "position": HydraConfig.get().job.get("num", 0) % 2}
        table, spent = train(model, maker, dataset, part.seeds, len(part.settings), plan, device, bar)
        tables.append(table.assign(member=table["member"] + sum(frame["member"].nunique() for frame in tables)))
        seconds += spent
    table = describe(pd.concat(tables), population)

    diverged = sorted(table.loc[~(table["cost"].abs() < float("inf")), "member"].unique().tolist())
    record.write(
        table, {"diverged_members": diverged, "training_seconds": round(seconds, 2), "device": str(device), "data_md5": dataset.checksums}
    )
    last = table[table["pass"] == plan.passes]
    best = last.loc[last["cost"].idxmin()] if last["cost"].notna().any() else last.iloc[0]
    print(
        f"{optimizer_name(config)} on {config['experiment']} ({dataset.source} data): {len(last)} members, {plan.passes} passes, "
        f"{seconds:.1f} s of training, {len(diverged)} diverged; best cost {best['cost']:.4f}, test cost {best['test_cost']:.4f}\n"
        f"wrote {shown(record.csv)}"
    )


def describe(table: pd.DataFrame, population: Population) -> pd.DataFrame:
    """Adds each member's seed and, where members differ in them, its hyper-parameters."""
    members = [(seed, setting) for seed in population.seeds for setting in population.settings]
    return table.assign(
        seed=[members[member][0] for member in table["member"]],
        hyperparameters=[
            " ".join(f"{key.partition('.')[2]}={value}" for key, value in members[member][1].items()) for member in table["member"]
        ],
    )


def shown(path) -> str:
    """The path as a user of the project would type it."""
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)


if __name__ == "__main__":
    with one_sentence_errors():
        main()
