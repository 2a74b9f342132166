"""Training of a policy: instances in, weights, card and learning curve out; a killed run goes on.

`python -m edgesplit.optimizer.learn.training FOLDER [NAME]...` trains those shipped policies again that are not there;
with --cards it writes the cards again of those that are: ranges from the training seeds, scores from held-out ones.
"""

import csv
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from ...common.console import say
from ...common.errors import InputError
from ...common.files import make_folder, whole_file, write_record
from ...common.tables import write_table
from ...fitting.schemas import Provenance
from ..agent.decide import trained_range
from ..agent.instances import Instance
from ..agent.policies import Policy, PolicyCard, Scores, read_weights
from ..agent.scores import HELD_OUT_SEED, gain_possible, held_out, score_policy
from ..agent.tasks import Task, shipped_instance, shipped_tasks
from ..methods.exact import captured_share
from .dqn import PRESETS, Learner, NotFiniteError, Preset
from .env import PLACES, make_tables

LOG_POINTS = 2000
MOST_ALPHA_S = 1e5
"""What a flat network can tell apart, whose inputs are alpha / 30."""
CHECKPOINT_S = 1.0
"""Seconds to the first checkpoint; those after it come a twentieth of the time so far apart."""
CURVE = ("episode", "steps", "seconds", "episode_return", "optimum", "all_local", "captured_share", "loss", "epsilon",
         "temperature")  # fmt: skip


@dataclass
class Progress:
    """What the live view shows; means over the last stretch of training.

    Attributes:
        steps: learning steps so far.
        total: of them.
        episodes: ended so far.
        loss: of the learner.
        episode_return: seconds.
        captured_share: of what offloading can gain, exploration included.
        epsilon: chance to explore.
        temperature: of Boltzmann exploration.
        steps_per_s: environment steps per second.
        left_s: time left.
    """

    steps: int
    total: int
    episodes: int
    loss: float
    episode_return: float
    captured_share: float
    epsilon: float
    temperature: float
    steps_per_s: float
    left_s: float


View = Callable[[Progress], None]
Log = Callable[[str, float, int], None]


def train(
    task: Task, folder: Path, view: View = lambda _: None, start_log: Callable[[int], Log] | None = None
) -> PolicyCard:
    """Train, score and write a policy: `NAME.safetensors`, `NAME.json` and `curves/NAME.csv`.

    The card comes last: where there is one, everything is there. Ctrl-C takes effect between two logged points, and
    leaves a checkpoint and the curve so far.

    Args:
        task: what to train.
        folder: where to.
        view: called at every logged point.
        start_log: called once with the learning steps that are done already; what it returns is called with name, value
            and steps of each quantity, as TensorBoard's `add_scalar`.

    Raises:
        InputError: where the loss is no number any more (the last good checkpoint stays), for a seed of held-out
            instances, or for rounds that a flat network cannot take in.
    """
    if task.seed >= HELD_OUT_SEED:
        raise InputError(f"--seed: found {task.seed}, accepted: 0 to {HELD_OUT_SEED - 1}; others are held out")
    torch.set_num_threads(1)  # the networks are small: more threads only wait for each other
    make_folder(folder / "curves")
    instances = training_instances(task)
    preset = PRESETS[task.preset]
    flat = preset.network == "flat"
    if flat:
        _check_flat(task, instances)
    tables = make_tables(instances, PLACES if flat else None, canonical=not flat)
    learner = Learner(tables, preset, task.steps, task.seed)
    possible = np.array([gain_possible(instance) for instance in instances])
    run = _Run(learner, possible, task, folder)
    run.resume()
    run.log = start_log(learner.done) if start_log else None
    run.learn(view)
    policy = Policy(new_card(task, instances, run.seconds / 60), run.weights())
    card = scored(policy, task)
    run.write(card)
    return card


def _check_flat(task: Task, instances: Sequence[Instance]) -> None:
    """Refuse rounds that a flat network has no places for, or whose alpha it cannot tell apart."""
    most = max(len(instance.users) for instance in instances)
    if most > PLACES:
        raise InputError(f"training {task.name}: found {most} users, accepted: {PLACES} at most; or --preset set")
    alpha = max(float(instance.users.alpha.max()) for instance in instances)
    if alpha > MOST_ALPHA_S:
        raise InputError(
            f"training {task.name}: found alpha {alpha:g} s (a PAI curve that is flat at some steps), accepted: "
            f"{MOST_ALPHA_S:g} s at most; or --preset set"
        )


def training_instances(task: Task) -> list[Instance]:
    """The rounds that a policy learns from."""
    return [task.draw(np.random.default_rng([task.seed, number])) for number in range(task.seeds)]


@contextmanager
def ctrl_c_waits() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C only makes the function that this gives return True, so that nothing is cut short."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield lambda: False  # no other thread may handle signals
        return
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class _Run:
    """A training under way: its curve, its clock and its checkpoint."""

    learner: Learner
    possible: np.ndarray
    task: Task
    folder: Path
    log: Log | None = None
    rows: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    episodes: int = 0
    saved: float = 0.0

    @property
    def checkpoint(self) -> Path:
        return self.folder / f".{self.task.name}.checkpoint.safetensors"

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self.checkpoint.exists():
            note = self.learner.load(self.checkpoint)
            self.rows, self.seconds, self.episodes = note["rows"], note["seconds"], note["episodes"]
            self.saved = self.seconds

    def learn(self, view: View) -> None:
        """Learn to the end; what is learned before Ctrl-C is kept.

        Raises:
            InputError: where the loss, its gradient or a weight is no number any more.
        """
        try:
            with ctrl_c_waits() as pressed:
                while self.learner.done < self.task.steps:
                    view(self.stretch())
                    if pressed():
                        raise KeyboardInterrupt
            self.keep()
        except KeyboardInterrupt:
            self.keep()
            raise
        except NotFiniteError as error:
            kept = f"{self.checkpoint} is the last good state: delete it" if self.checkpoint.exists() else "start again"
            raise InputError(f"training {self.task.name}: {error}; {kept} and take another --seed") from error

    def keep(self) -> None:
        """Write a checkpoint and the curve so far."""
        note = {"rows": self.rows, "seconds": self.seconds, "episodes": self.episodes}
        self.learner.save(self.checkpoint, note)
        write_curve(self.folder / "curves" / f"{self.task.name}.csv", self.rows)
        self.saved = self.seconds

    def stretch(self) -> Progress:
        """Learn up to the next logged point; save a checkpoint now and then."""
        learner, start = self.learner, time.perf_counter()
        until = min(self.task.steps, learner.done + max(1, self.task.steps // LOG_POINTS))
        losses, ended, before = [], [], learner.done
        while learner.done < until:
            loss, now = learner.turn()
            losses.append(loss)
            ended += now
        took = time.perf_counter() - start
        self.seconds += took
        self._note(ended, float(np.mean(losses)))
        if self.seconds - self.saved >= max(CHECKPOINT_S, min(30.0, 0.05 * self.seconds)):
            self.keep()
        speed = (learner.done - before) / took
        row = dict(zip(CURVE, self.rows[-1], strict=True)) if self.rows else dict.fromkeys(CURVE, 0.0)
        shown = {name: row[name] for name in ("loss", "episode_return", "captured_share", "epsilon", "temperature")}
        self._log(shown)
        left = (self.task.steps - learner.done) / speed
        episodes = learner.preset.episodes
        return Progress(
            learner.done, self.task.steps, self.episodes, **shown, steps_per_s=speed * episodes, left_s=left
        )

    def _note(self, ended: Sequence[tuple[int, float]], loss: float) -> None:
        if not ended:
            return
        learner, self.episodes = self.learner, self.episodes + len(ended)
        which = np.array([k for k, _ in ended])
        local, possible = learner.tables.all_local[which], self.possible[which]
        paid = np.array([value for _, value in ended])
        gains = paid if learner.preset.reward == "gain" else paid - local
        share = captured_share(gains, np.zeros(len(gains)), possible)
        means = [float(values.mean()) for values in (local + gains, local + possible, local, share)]
        self.rows.append(
            [self.episodes, learner.done, self.seconds, *means, loss, learner.epsilon, learner.temperature]
        )

    def _log(self, shown: Mapping[str, float]) -> None:
        if self.log:
            for name, value in shown.items():
                self.log(name, value, self.learner.done)

    def weights(self) -> dict[str, np.ndarray]:
        """The trained network's, as NumPy plans with them."""
        return {name: value.numpy().astype(np.float64) for name, value in self.learner.current.state_dict().items()}

    def write(self, card: PolicyCard) -> None:
        """The weights, then the card; the checkpoint goes."""
        path = self.folder / f"{self.task.name}.json"
        path.unlink(missing_ok=True)  # of a policy that is replaced
        state = self.learner.current.state_dict()
        with whole_file(path.with_suffix(".safetensors"), "wb") as handle:
            handle.write(save({name: value.contiguous() for name, value in state.items()}))
        write_record(path, card)
        self.checkpoint.unlink(missing_ok=True)


def write_curve(path: Path, rows: Sequence[Sequence[float]]) -> None:
    """Write a learning curve: means over the episodes that ended since the row before."""
    with whole_file(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(CURVE)
        writer.writerows([f"{value:.6g}" for value in row] for row in rows)


def new_card(task: Task, instances: Sequence[Instance], minutes: float) -> PolicyCard:
    """What is known of a policy before it is scored."""
    preset = PRESETS[task.preset]
    one = ", one instance" if task.scope == "specific" else ""
    return PolicyCard(
        name=task.name,
        network=preset.network,
        scope=task.scope,
        preset=task.preset,
        places=PLACES if preset.network == "flat" else None,
        gpus=task.gpus,
        range=trained_range((instance.scenario, instance.users) for instance in instances),
        case=task.case,
        seeds=task.seeds,
        steps=task.steps,
        minutes=round(minutes, 2),
        scores=[],
        provenance=Provenance(
            kind="measured",
            source=f"plan train{one}",
            date=datetime.now(UTC).date().isoformat(),
            versions={name: version(name) for name in ("edgesplit", "torch", "numpy")},
            notes=[f"seed {task.seed}; {_words(preset)}"],
        ),
    )


def scored(policy: Policy, task: Task) -> PolicyCard:
    """The card with scores on held-out instances, by the NumPy network as `plan` uses it."""
    scores: list[Scores] = []
    for name, draw in task.settings.items():
        instances = held_out(draw, task.held_out)
        possible = np.array([gain_possible(instance) for instance in instances])
        scores.append(score_policy(policy, name, instances, possible).scores)
    return policy.card.model_copy(update={"scores": scores})


def write_card_again(task: Task, folder: Path) -> PolicyCard:
    """Of a policy that is there: ranges and scores anew, minutes and provenance as they were."""
    path = folder / f"{task.name}.json"
    old = json.loads(path.read_text())
    kept = {"minutes": old["minutes"], "provenance": Provenance.model_validate(old["provenance"])}
    card = new_card(task, training_instances(task), 0.0).model_copy(update=kept)
    card = scored(Policy(card, read_weights(path.with_suffix(".safetensors"))), task)
    write_record(path, card)
    return card


def write_instance(path: Path, instance: Instance) -> None:
    """Write the users of an instance as a users file, at full precision."""
    users = instance.users
    columns = {
        "user_id": [f"user-{number + 1:02}" for number in range(len(users))],
        "step_latency_s": users.step_latency_s.tolist(),
        "alpha": users.alpha.tolist(),
        "request_slot": users.request_slot.tolist(),
    }
    write_table(path, columns)


def _words(preset: Preset) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(preset).items())


def main(arguments: Sequence[str]) -> None:
    """Train the shipped policies, all or those named, or write their cards again."""
    cards = "--cards" in arguments
    first, *names = (argument for argument in arguments if argument != "--cards")
    folder = Path(first)
    make_folder(folder)
    if not cards:
        write_instance(folder / "specific-users.csv", shipped_instance())
    for task in shipped_tasks():
        if (names and task.name not in names) or (folder / f"{task.name}.json").exists() != cards:
            continue
        say(f"{'scoring' if cards else 'training'} {task.name}")
        card = write_card_again(task, folder) if cards else train(task, folder)
        for scores in card.scores:
            say(f"{task.name}: {scores.setting}: captured {scores.captured_mean:.4f}, p5 {scores.captured_p5:.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])
