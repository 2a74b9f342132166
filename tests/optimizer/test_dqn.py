"""PER-DQN: one seed, one curve; a resumed training is an unbroken one; targets; what stops it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgesplit.common.errors import InputError
from edgesplit.optimizer.agent.instances import Range, paper_instance
from edgesplit.optimizer.agent.scores import gain_possible
from edgesplit.optimizer.agent.tasks import Task
from edgesplit.optimizer.learn import dqn, training
from edgesplit.optimizer.learn.dqn import PRESETS, Learner, NotFiniteError, explore, roll_out
from edgesplit.optimizer.learn.env import VectorEnv, make_tables
from edgesplit.optimizer.learn.replay import Experience
from edgesplit.optimizer.learn.training import train

SMALL = Range(users=(2, 6), gpus=(1, 4))


def instances(count=20):
    return [paper_instance(np.random.default_rng(number), SMALL) for number in range(count)]


def learner(preset="set", steps=400, seed=0, **changes):
    chosen = replace(PRESETS[preset], **({"memory": 2000, "episodes": 8, "batch": 32} | changes))
    flat = chosen.network == "flat"
    return Learner(make_tables(instances(), 6 if flat else None, canonical=not flat), chosen, steps, seed)


def weights(of):
    return {name: value.clone() for name, value in of.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_one_seed_gives_one_curve(preset):
    curves = [[one.turn() for _ in range(60)] for one in (learner(preset), learner(preset))]
    assert curves[0] == curves[1]
    assert curves[0] != [learner(preset, seed=1).turn() for _ in range(60)]


def test_the_target_changes_on_its_beat_alone():
    agent = learner(target_every=10)
    for step in range(1, 41):
        before = weights(agent.target)
        agent.turn()
        if step % 10:
            assert same(before, weights(agent.target))
        else:
            assert same(weights(agent.current), weights(agent.target))


@pytest.mark.parametrize("preset", ["paper", "set"])
def test_targets(preset):
    """y = r at an episode's end, else r + gamma times the target network's value of the action that is chosen."""
    agent = learner(preset, target_every=10**6)
    for _ in range(80):
        agent.turn()
    s = agent.memory.sample(32, np.random.default_rng(0)).experience
    y = agent._targets(s).numpy()
    assert y[s.done] == pytest.approx(s.reward[s.done], rel=1e-6)
    for k in np.flatnonzero(~s.done):
        env = VectorEnv(agent.tables, "gain", s.which[[k]], s.granted[[k]].copy(), s.t[[k]].copy(), np.zeros(1))
        env.step(s.action[[k]])
        state = dqn.make_state(agent.preset.network, agent.tables, env.which, env.granted, env.t)
        with torch.no_grad():
            current, target = agent.current(state)[0], agent.target(state)[0]
        chosen = target[current.argmax()] if preset == "set" else target.max()
        assert y[k] == pytest.approx(s.reward[k] + agent.preset.discount * float(chosen), abs=1e-5)


def test_a_resumed_training_equals_an_unbroken_one(tmp_path):
    whole, broken = learner(), learner()
    unbroken = [whole.turn() for _ in range(70)]
    for _ in range(30):
        broken.turn()
    broken.save(tmp_path / "c.safetensors", {"note": 1})
    again = learner()
    assert again.load(tmp_path / "c.safetensors") == {"note": 1}
    assert [again.turn() for _ in range(40)] == unbroken[30:]
    assert same(weights(whole.current), weights(again.current))
    assert same(weights(whole.target), weights(again.target))


@pytest.mark.parametrize("damage", ["other training", "cut short", "no safetensors"])
def test_a_bad_checkpoint_is_one_line(tmp_path, damage):
    path = tmp_path / "c.safetensors"
    agent = learner(seed=1 if damage == "other training" else 0)
    agent.turn()
    agent.save(path, {})
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    if damage == "no safetensors":
        path.write_text("hello")
    with pytest.raises(InputError, match=r"c\.safetensors.*delete it") as caught:
        learner().load(path)
    assert "\n" not in str(caught.value)


def test_nan_stops_training_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    task = Task(
        name="doomed", scope="general", preset="set", draw=lambda rng: paper_instance(rng, SMALL), seeds=10, steps=60,
        held_out=1,
    )  # fmt: skip
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    turn, turns = Learner.turn, []

    def failing(self):
        turns.append(1)
        if len(turns) > 40:
            for value in self.current.parameters():
                value.data.fill_(float("nan"))
        return turn(self)

    monkeypatch.setattr(Learner, "turn", failing)
    advice = (
        r"doomed: the loss is nan .*doomed\.checkpoint\S* is the last good state: delete it and take another --seed"
    )
    with pytest.raises(InputError, match=advice):
        train(task, tmp_path)
    kept = list(tmp_path.glob(".doomed*"))
    assert len(kept) == 1
    assert not list(tmp_path.glob("doomed*"))
    monkeypatch.setattr(Learner, "turn", turn)
    train(task, tmp_path)  # goes on from the checkpoint
    assert (tmp_path / "doomed.safetensors").exists()


def test_explore():
    rng, q = np.random.default_rng(0), np.tile([[0.0, 1.0]], (40_000, 1))
    for epsilon, temperature in ((0.0, 1.0), (0.5, 1.0), (1.0, 2.0)):
        grants = explore(q, epsilon, temperature, rng).mean()
        boltzmann = 1 / (1 + np.exp(-1 / temperature))
        assert grants == pytest.approx(1 - epsilon + epsilon * boltzmann, abs=0.01)
    assert np.all(explore(-1e9 * q, 1.0, 1e-3, rng) == 0)


def test_epsilon_and_temperature_fall_linearly():
    agent = learner("paper", steps=100)
    assert (agent.epsilon, agent.temperature) == (0.5, 5.0)
    agent.done = 50
    assert (agent.epsilon, agent.temperature) == pytest.approx((0.2505, 2.505))
    agent.done = 100
    assert (agent.epsilon, agent.temperature) == pytest.approx((0.001, 0.01))


def test_it_learns():
    agent = learner(steps=700)
    possible = np.array([gain_possible(instance) for instance in instances()])
    for _ in range(700):
        agent.turn()
    assert roll_out(agent.current, "set", agent.tables).sum() > 0.9 * possible.sum()


def test_the_advice_after_nan_works(tmp_path):
    """Another seed is refused while the checkpoint of the first is there, and trains once that is deleted."""
    task = Task(
        name="doomed", scope="general", preset="set", draw=lambda rng: paper_instance(rng, SMALL), seeds=4, steps=20,
        held_out=1,
    )  # fmt: skip
    checkpoint = tmp_path / ".doomed.checkpoint.safetensors"
    learner().save(checkpoint, {})
    with pytest.raises(InputError, match="checkpoint of another training; delete it"):
        train(replace(task, seed=1), tmp_path)
    checkpoint.unlink()
    train(replace(task, seed=1), tmp_path)


def test_a_gradient_that_is_no_number_changes_no_weight(monkeypatch):
    agent = learner()
    while not agent.memory.ready:
        agent.turn()
    before = weights(agent.current)
    monkeypatch.setattr(dqn, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(NotFiniteError, match="the gradient is inf"):
        agent.turn()
    assert same(before, weights(agent.current))


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(tmp_path):
    agent, path = learner(), tmp_path / "c.safetensors"
    agent.save(path, {})
    good = path.read_bytes()
    next(iter(agent.current.parameters())).data.fill_(float("inf"))
    with pytest.raises(NotFiniteError, match="a weight is not finite"):
        agent.save(path, {})
    assert path.read_bytes() == good


def test_a_loss_that_is_no_number_is_refused():
    agent = learner()
    while not agent.memory.ready:
        agent.turn()
    rows = agent.memory.rows
    agent.memory.rows = Experience(**{**vars(rows), "reward": np.full_like(rows.reward, np.inf)})
    with pytest.raises(NotFiniteError):
        agent.turn()
