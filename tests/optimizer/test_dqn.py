"""PER-DQN: one seed, one curve; a resumed training is an unbroken one; eq. (23); what stops it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgesplit.common.errors import InputError
from edgesplit.optimizer.agent.instances import Range, paper_instance
from edgesplit.optimizer.agent.scores import possible_gain
from edgesplit.optimizer.learn import dqn, training
from edgesplit.optimizer.learn.checkpoint import load_checkpoint, save_checkpoint
from edgesplit.optimizer.learn.dqn import DivergedError, Learner, explore, loss_target, roll_out, weighted_loss
from edgesplit.optimizer.learn.paper_tables import paper_tables
from edgesplit.optimizer.learn.presets import MONTE_CARLO, PRESETS
from edgesplit.optimizer.learn.replay import Experience
from edgesplit.optimizer.learn.set_tables import set_tables
from edgesplit.optimizer.learn.tasks import Task
from edgesplit.optimizer.learn.trainees import TRAINEES, tensors
from edgesplit.optimizer.learn.training import train
from edgesplit.optimizer.learn.vector_env import VectorEnv

INSTANCES = [paper_instance(np.random.default_rng(number), Range(users=(2, 6), gpus=(1, 4))) for number in range(20)]
TABLES = {"flat": paper_tables(INSTANCES, 6), "set": set_tables(INSTANCES)}


def learner(preset="set", steps=400, seed=0, **changes):
    chosen = replace(PRESETS[preset], **({"memory": 2000, "episodes": 8, "batch": 32} | changes))
    return Learner(TABLES[chosen.network], chosen, steps, seed)


def small_task(**changes):
    values = {"name": "doomed", "scope": "general", "preset": "set", "seeds": 4, "steps": 20, "held_out": 1}
    return Task(**(values | {"draw": lambda rng: INSTANCES[int(rng.integers(len(INSTANCES)))]} | changes))


@pytest.fixture
def small_memory(monkeypatch):
    """Checkpoints of a few kilobytes."""
    monkeypatch.setitem(PRESETS, "set", replace(PRESETS["set"], memory=2000))


def weights(of):
    return {name: value.clone() for name, value in of.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_one_seed_gives_one_curve(preset):
    first, again, other = ([one.turn() for _ in range(20)] for one in (learner(preset, seed=n) for n in (0, 0, 1)))
    assert first == again
    assert first != other


def test_the_target_changes_on_its_beat_alone():
    agent = learner(target_every=10)
    for step in range(1, 31):
        before = weights(agent.target)
        agent.turn()
        if step % 10:
            assert same(before, weights(agent.target))
        else:
            assert same(weights(agent.current), weights(agent.target))


@pytest.mark.parametrize(("preset", "n"), [("set", 1), ("paper", 1), ("paper", 3), ("flat-gain", MONTE_CARLO)])
def test_targets(preset, n):
    """y = what was paid in n steps, and, where the episode goes on, the target network's value of the state then."""
    agent = learner(preset, target_every=10**6, n_step=n)
    for _ in range(30):
        agent.turn()
    s = agent.memory.sample(32, np.random.default_rng(0)).experience
    y, discount = agent._targets(s).numpy(), agent.preset.discount
    for k in range(32):
        episode = s.take(np.array([k]))
        env, paid = VectorEnv.start(agent.tables, episode.rounds, agent.reward), []
        for t in range(int(episode.steps[0])):
            if t == s.t[k] + n:
                break
            env.step(episode.granted[:, t].astype(int))
        rewards = agent.reward.settle(episode.rounds, episode.granted, episode.steps, env.paid)[0]
        unit = agent.reward.unit(episode.which)[0]
        paid = rewards[s.t[k] : s.t[k] + n] / unit
        expected = sum(discount**j * reward for j, reward in enumerate(paid))
        if s.t[k] + n < s.steps[k]:
            state = tensors(agent.tables.state(env.rounds, env.granted, env.t))
            with torch.no_grad():
                current, target = agent.current(state)[0], agent.target(state)[0]
            chosen = target[current.argmax()] if agent.preset.double else target.max()
            expected += discount**n * float(chosen)
        assert y[k] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_equation_23_by_hand():
    """Its target, plain and with the current network's choice, and its loss, squared and Huber's."""
    reward, goes_on = torch.tensor([1.0, 2.0]), torch.tensor([True, False])
    q_target, q_current = torch.tensor([[3.0, 5.0], [7.0, 9.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert loss_target(reward, goes_on, q_target, None, 0.5).tolist() == [1 + 0.5 * 5, 2]
    assert loss_target(reward, goes_on, q_target, q_current, 0.5).tolist() == [1 + 0.5 * 3, 2]
    error, weight = torch.tensor([0.5, -3.0]), torch.tensor([1.0, 0.5])
    assert float(weighted_loss(error, weight, robust=False)) == pytest.approx((0.25 + 0.5 * 9) / 2)
    assert float(weighted_loss(error, weight, robust=True)) == pytest.approx((0.125 + 0.5 * 2.5) / 2)


def test_each_network_has_its_tables_and_its_network():
    rng = np.random.default_rng(0)
    for preset in PRESETS.values():
        made = TRAINEES[preset.network].make_tables(INSTANCES)
        q = TRAINEES[preset.network].make_network(made)(
            tensors(
                made.state(made.rounds(np.arange(3), "file", rng), np.zeros((3, made.places), bool), np.zeros(3, int))
            )
        )
        assert q.shape == (3, 2)
    with pytest.raises(ValueError, match="reward: found 'paper' with another agent than the paper's, accepted: 'gain'"):
        learner(reward="paper")
    with pytest.raises(ValueError, match="order: found 'random' with another agent than the paper's, accepted: 'file'"):
        learner(order="random")


def test_a_resumed_training_equals_an_unbroken_one(tmp_path):
    whole, broken = learner(), learner()
    unbroken = [whole.turn() for _ in range(50)]
    for _ in range(25):
        broken.turn()
    save_checkpoint(broken, tmp_path / "c.safetensors", {"note": 1})
    again = learner()
    assert load_checkpoint(again, tmp_path / "c.safetensors") == {"note": 1}
    assert [again.turn() for _ in range(25)] == unbroken[25:]
    assert same(weights(whole.current), weights(again.current))
    assert same(weights(whole.target), weights(again.target))


@pytest.mark.parametrize("damage", ["other training", "cut short", "no safetensors"])
def test_a_bad_checkpoint_is_one_line(tmp_path, damage):
    path = tmp_path / "c.safetensors"
    agent = learner(seed=1 if damage == "other training" else 0)
    agent.turn()
    save_checkpoint(agent, path, {})
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    if damage == "no safetensors":
        path.write_text("hello")
    with pytest.raises(InputError, match=r"c\.safetensors.*delete it") as caught:
        load_checkpoint(learner(), path)
    assert "\n" not in str(caught.value)


def test_nan_stops_training_and_keeps_the_last_checkpoint(tmp_path, monkeypatch, small_memory):
    task = small_task(steps=30)
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    turn, turns = Learner.turn, []

    def failing(self):
        turns.append(1)
        if len(turns) > 20:
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
    """The paper's network, which knows nothing of rewards before it learns."""
    changes = {"learning_rate": 2e-3, "last_learning_rate": 1e-3, "target_every": 25, "temperature": (1.0, 0.1)}
    agent = learner("flat-gain", steps=200, **changes)
    possible = sum(possible_gain(instance) for instance in INSTANCES)
    assert roll_out(agent.current, agent.tables).sum() < 0.5 * possible
    for _ in range(150):
        agent.turn()
    assert roll_out(agent.current, agent.tables).sum() > 0.9 * possible


def test_the_advice_after_nan_works(tmp_path, small_memory):
    """Another seed is refused while the checkpoint of the first is there, and trains once that is deleted."""
    checkpoint = tmp_path / ".doomed.checkpoint.safetensors"
    save_checkpoint(learner(), checkpoint, {})
    with pytest.raises(InputError, match="checkpoint of another training; delete it"):
        train(small_task(seed=1), tmp_path)
    checkpoint.unlink()
    train(small_task(seed=1), tmp_path)


def test_a_gradient_that_is_no_number_changes_no_weight(monkeypatch):
    agent = learner()
    while not agent.memory.ready:
        agent.turn()
    before = weights(agent.current)
    monkeypatch.setattr(dqn, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(DivergedError, match="the gradient is inf"):
        agent.turn()
    assert same(before, weights(agent.current))


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(tmp_path):
    agent, path = learner(), tmp_path / "c.safetensors"
    save_checkpoint(agent, path, {})
    good = path.read_bytes()
    next(iter(agent.current.parameters())).data.fill_(float("inf"))
    with pytest.raises(DivergedError, match="a weight is not finite"):
        save_checkpoint(agent, path, {})
    assert path.read_bytes() == good


def test_a_loss_that_is_no_number_is_refused():
    agent = learner()
    while not agent.memory.ready:
        agent.turn()
    rows = agent.memory.rows
    agent.memory.rows = Experience(**{**vars(rows), "reward": np.full_like(rows.reward, np.inf)})
    with pytest.raises(DivergedError):
        agent.turn()
