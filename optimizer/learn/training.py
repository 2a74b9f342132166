"""Training of a policy: instances in, weights, card and learning curve out; a killed training goes on.

`python -m edgesplit.optimizer.learn.training FOLDER [NAME]...` trains those shipped policies again that are not there;
with --cards it writes the cards again of those that are: ranges from the training seeds, scores from held-out ones.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from ...common.arrays import Floats
from ...common.console import say
from ...common.errors import InputError
from ...common.files import make_folder, whole_file, write_record
from ...common.interrupts import ctrl_c_waits
from ...common.tables import write_table
from ..agent.instances import Instance, shipped_instance
from ..agent.layers import Weights
from ..agent.policies import Policy, PolicyCard
from ..agent.scores import HELD_OUT_SEED, possible_gain
from ..methods.exact import captured_share
from .cards import new_card, scored_card, write_card_again
from .checkpoint import load_checkpoint, save_checkpoint
from .curve import CURVE, CurvePoint, write_curve
from .dqn import DivergedError, Learner
from .logs import Log
from .presets import PRESETS
from .tables import Tables
from .tasks import Task, shipped_tasks, training_instances
from .trainees import TRAINEES

LOG_POINTS = 2000
"""Number of logged points of a whole training at most."""
CHECKPOINT_S = 1.0
"""Seconds of learning to the first checkpoint; those after it come a twentieth of the time so far apart."""
LONGEST_S = 30.0
"""Largest number of seconds of learning between two checkpoints."""


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """What a live view shows; means are over the last stretch of training.

    Attributes:
        steps: number of learning steps so far.
        total: number of learning steps in all.
        episodes: number of episodes that have ended so far.
        loss: mean loss.
        episode_return: mean objective that episodes reached, seconds.
        captured_share: mean share of the possible gain that they captured, exploration included.
        epsilon: chance to explore.
        temperature: temperature of Boltzmann exploration.
        steps_per_s: environment steps per second.
        left_s: estimated time left, seconds.
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


SHOWN = ("loss", "episode_return", "captured_share", "epsilon", "temperature")
"""The quantities of a curve's point that live view and log show."""
View = Callable[[TrainingProgress], None]


def train(
    task: Task, folder: Path, view: View = lambda _: None, start_log: Callable[[int], Log] | None = None
) -> PolicyCard:
    """Train, score and write a policy: `NAME.safetensors`, `NAME.json` and `curves/NAME.csv`.

    The card comes last: where there is one, everything is there. Ctrl-C takes effect between two logged points, and
    leaves a checkpoint and the curve so far.

    Args:
        task: what to train.
        folder: folder to write to.
        view: function that is called at every logged point.
        start_log: function that is called once with the number of learning steps done already; what it returns is
            called with name, value and learning steps of each quantity, as TensorBoard's `add_scalar`.

    Raises:
        InputError: where loss, gradient or weights are not finite any more (the last good checkpoint stays), for a seed
            of held-out instances, or for rounds that the paper's network cannot take in.
    """
    if task.seed >= HELD_OUT_SEED:
        raise InputError(f"--seed: found {task.seed}, accepted: 0 to {HELD_OUT_SEED - 1}; others are held out")
    torch.set_num_threads(1)  # the networks are small: more threads only wait for each other
    make_folder(folder / "curves")
    instances = training_instances(task)
    learner = Learner(_tables(task, instances), PRESETS[task.preset], task.steps, task.seed)
    run = _Run(learner, np.array([possible_gain(instance) for instance in instances]), task, folder)
    run.resume()
    run.log = start_log(learner.done) if start_log else None
    run.learn(view)
    card = scored_card(Policy(new_card(task, instances, run.seconds / 60), run.weights()), task)
    run.write(card)
    return card


def _tables(task: Task, instances: Sequence[Instance]) -> Tables:
    """The instances as the agent of the task meets them."""
    try:
        return TRAINEES[PRESETS[task.preset].network].make_tables(instances)
    except InputError as error:
        raise InputError(f"training {task.name}: {error}") from error


@dataclass
class _Run:
    """A training under way.

    Attributes:
        learner: the agent.
        possible: what the optimum of each instance is worth over all local, seconds, shape (instances,).
        task: what is trained.
        folder: folder that the policy is written to.
        log: where quantities are logged; None for nowhere.
        points: learning curve so far.
        seconds: time of learning so far.
        episodes: number of episodes that have ended so far.
        saved: time of learning at the last checkpoint, seconds.
    """

    learner: Learner
    possible: Floats
    task: Task
    folder: Path
    log: Log | None = None
    points: list[CurvePoint] = field(default_factory=list)
    seconds: float = 0.0
    episodes: int = 0
    saved: float = 0.0

    @property
    def checkpoint(self) -> Path:
        """The file of the checkpoint."""
        return self.folder / f".{self.task.name}.checkpoint.safetensors"

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self.checkpoint.exists():
            note = load_checkpoint(self.learner, self.checkpoint)
            self.points = [CurvePoint(**dict(zip(CURVE, row, strict=True))) for row in note["rows"]]
            self.seconds, self.episodes = note["seconds"], note["episodes"]
            self.saved = self.seconds

    def learn(self, view: View) -> None:
        """Learn to the end; what is learned before Ctrl-C is kept.

        Raises:
            InputError: where loss, gradient or weights are not finite any more.
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
        except DivergedError as error:
            kept = f"{self.checkpoint} is the last good state: delete it" if self.checkpoint.exists() else "start again"
            raise InputError(f"training {self.task.name}: {error}; {kept} and take another --seed") from error

    def keep(self) -> None:
        """Write a checkpoint and the curve so far."""
        rows = [astuple(point) for point in self.points]
        note = {"rows": rows, "seconds": self.seconds, "episodes": self.episodes}
        save_checkpoint(self.learner, self.checkpoint, note)
        write_curve(self.folder / "curves" / f"{self.task.name}.csv", self.points)
        self.saved = self.seconds

    def stretch(self) -> TrainingProgress:
        """Learn up to the next logged point; save a checkpoint now and then."""
        learner, start, before = self.learner, time.perf_counter(), self.learner.done
        until = min(self.task.steps, before + max(1, self.task.steps // LOG_POINTS))
        losses, ended = [], []
        while learner.done < until:
            loss, of_turn = learner.turn()
            losses.append(loss)
            ended += of_turn
        took = time.perf_counter() - start
        self.seconds += took
        if ended:
            self._note(ended, float(np.mean(losses)))
        if self.seconds - self.saved >= max(CHECKPOINT_S, min(LONGEST_S, 0.05 * self.seconds)):
            self.keep()
        progress = self._progress((learner.done - before) / took)
        self._log(progress)
        return progress

    def _note(self, ended: Sequence[tuple[int, float]], loss: float) -> None:
        """Add a point to the curve: instances and returns of the episodes that ended, and the mean loss."""
        learner, self.episodes = self.learner, self.episodes + len(ended)
        which, returns = np.array([k for k, _ in ended]), np.array([value for _, value in ended])
        local, possible = learner.tables.all_local[which], self.possible[which]
        gains = learner.reward.gain(which, returns)
        share = captured_share(gains, np.zeros(len(gains)), possible)
        self.points.append(
            CurvePoint(
                episode=self.episodes,
                steps=learner.done,
                seconds=self.seconds,
                episode_return=float((local + gains).mean()),
                optimum=float((local + possible).mean()),
                all_local=float(local.mean()),
                captured_share=float(share.mean()),
                loss=loss,
                epsilon=learner.epsilon,
                temperature=learner.temperature,
            )
        )

    def _progress(self, speed: float) -> TrainingProgress:
        """How far the training is, at a speed of so many learning steps per second."""
        learner = self.learner
        last = asdict(self.points[-1]) if self.points else dict.fromkeys(SHOWN, 0.0)
        return TrainingProgress(
            steps=learner.done,
            total=self.task.steps,
            episodes=self.episodes,
            **{name: last[name] for name in SHOWN},
            steps_per_s=speed * learner.preset.episodes / learner.preset.updates,
            left_s=(self.task.steps - learner.done) / speed,
        )

    def _log(self, progress: TrainingProgress) -> None:
        if self.log:
            for name, value in asdict(progress).items():
                if name in SHOWN:
                    self.log(name, value, progress.steps)

    def weights(self) -> Weights:
        """The weights of the trained network, as NumPy plans with them."""
        return {name: value.numpy().astype(np.float64) for name, value in self.learner.policy.state_dict().items()}

    def write(self, card: PolicyCard) -> None:
        """Write the weights, then the card, and remove the checkpoint."""
        path = self.folder / f"{self.task.name}.json"
        path.unlink(missing_ok=True)  # of a policy that is replaced
        state = self.learner.policy.state_dict()
        with whole_file(path.with_suffix(".safetensors"), "wb") as handle:
            handle.write(save({name: value.contiguous() for name, value in state.items()}))
        write_record(path, card)
        self.checkpoint.unlink(missing_ok=True)


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
