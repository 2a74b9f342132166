"""The paired policy gradient: what it credits, what it learns, and that it goes on where it was."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from edgesplit.common.errors import InputError
from edgesplit.service.learn.judging import grid, interval, main
from edgesplit.service.learn.paired import PairedLearner, PairedSettings, Trial, discounted
from edgesplit.service.learn.rollouts import Rollouts
from edgesplit.service.learn.training import MIXTURE, held_out_worlds, scores, train, words
from edgesplit.service.learn.vector_simulation import VectorSimulation, price
from edgesplit.service.price_file import load_prices
from edgesplit.service.price_policy import OUTPUTS, PricePolicy, load_price_policy, shapes
from edgesplit.service.scheduler import decide
from edgesplit.service.simulator import Simulation, decider
from edgesplit.service.tuning import Kind, worlds_of

SMALL = PairedSettings(steps=4, worlds=2)


def kinds(seconds=10, count=3):
    return [worlds_of(kind, "default", seconds, 0, count)[0] for kind in (MIXTURE[3], MIXTURE[-4])]


def learner(settings=SMALL, seed=0):
    return PairedLearner(kinds(), settings, seed)


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_the_network_has_the_shapes_of_the_policy_and_begins_as_the_rule_price():
    weights = learner().mean
    assert {name: list(value.shape) for name, value in weights.items()} == shapes()
    worlds = kinds()[0]
    untrained = VectorSimulation(worlds).run(PricePolicy(weights).prices)
    assert untrained == pytest.approx(VectorSimulation(worlds).run(price), rel=1e-2)


def test_a_trial_without_exploration_is_the_policy():
    worlds, weights = kinds()[1], learner().mean
    trial = Trial(weights, np.zeros((len(worlds), 99, OUTPUTS)), [])
    assert np.array_equal(
        VectorSimulation(worlds).run(trial), VectorSimulation(worlds).run(PricePolicy(weights).prices)
    )


@pytest.mark.parametrize("forgetting", [0.0, 0.7, 1.0])
def test_later_gains_are_discounted(forgetting):
    values = np.random.default_rng(1).normal(size=(3, 7))
    for r in range(7):
        slow = sum(forgetting ** (later - r) * values[:, later] for later in range(r, 7))
        assert np.allclose(discounted(values, forgetting)[:, r], slow)


def test_equal_seeds_learn_equal_weights_and_others_do_not():
    one, same, other = (learner(seed=seed) for seed in (0, 0, 1))
    for each in (one, same, other):
        each.step()
    assert equal(one.mean, same.mean)
    assert not equal(one.mean, other.mean)


def test_a_training_goes_on_where_it_was():
    whole, begun, resumed = learner(), learner(), learner()
    for _ in range(4):
        whole.step()
    for _ in range(2):
        begun.step()
    resumed.load(begun.dump())
    assert (resumed.done, equal(resumed.mean, begun.mean)) == (2, True)
    while resumed.done < 4:
        resumed.step()
    assert equal(resumed.mean, whole.mean)


def test_a_damaged_checkpoint_is_refused():
    content = learner().dump()
    for damaged in (b"", content[:40], content[:-9], b"x" * 99):
        with pytest.raises(InputError, match=r"the checkpoint: .* delete it to begin again"):
            learner().load(damaged)


def test_a_checkpoint_of_another_training_is_refused():
    for other in (learner(seed=1), learner(PairedSettings(steps=5, worlds=2))):
        with pytest.raises(
            InputError, match=r"mine: found another training, seed 0; steps 4.*; delete it to begin again"
        ):
            other.load(learner().dump(), "mine")


def test_the_card_says_what_the_shipped_policy_gains():
    policy, kinds = load_price_policy("mixed"), MIXTURE[:1] + MIXTURE[-4:-3]
    assert scores(policy.weights, kinds) == {words(kind): policy.card.scores[words(kind)] for kind in kinds}
    assert list(policy.card.scores) == policy.card.trained_on == [words(kind) for kind in MIXTURE]


@pytest.mark.parametrize("options", [["--worlds", "1"], ["--only", "no such kind"], ["no-such"]])
def test_judging_says_what_it_cannot_do_in_one_line(monkeypatch, options):
    monkeypatch.setattr("sys.argv", ["judging", *options])
    with pytest.raises(InputError, match="accepted: "):
        main()


def test_judging_prints_a_row_for_a_kind(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["judging", "--worlds", "2", "--only", "poisson:1, 8 GPUs"])
    main()
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "worlds"
    assert row.startswith("poisson:1, 8 GPUs ")


def test_the_gradient_of_a_price_that_is_far_too_low_points_up():
    # with prices of nothing everybody is let in: at such a load a higher price must be what is learned first
    settings = PairedSettings(steps=12, worlds=3, learning_rate=0.05)
    busy = [worlds_of(Kind("poisson:12", 20, 2), "default", 30, 0, 6)[0]]
    student = PairedLearner(busy, settings, 0)
    student.network.prices[-1].bias.data[0] = -0.9
    before = VectorSimulation(busy[0]).run(PricePolicy(student.network.weights()).prices).sum()
    for _ in range(settings.steps):
        student.step()
    after = VectorSimulation(busy[0]).run(PricePolicy(student.network.weights()).prices).sum()
    assert after > before


def test_training_writes_a_policy_that_loads(tmp_path, monkeypatch):
    monkeypatch.setattr("edgesplit.service.learn.training.MIXTURE", MIXTURE[3:4])
    monkeypatch.setattr("edgesplit.service.learn.training.SECONDS", 5.0)
    monkeypatch.setattr("edgesplit.service.learn.training.WORLDS", 3)
    monkeypatch.setattr("edgesplit.service.learn.training.HELD_OUT", 3)
    seen = []
    train(tmp_path, "mine", SMALL, 0, lambda done, gain: seen.append(done))
    policy = load_price_policy(str(tmp_path / "mine.safetensors"))
    assert seen == [1, 2, 3, 4]
    assert policy.card.steps == 4
    assert policy.card.trained_on == [words(MIXTURE[3])]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json", "mine.safetensors"]


def test_a_policy_of_another_network_or_none_is_refused(tmp_path):
    from safetensors.numpy import save_file

    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes().items()}
    card = (load_price_policy("mixed").card).model_dump_json(by_alias=True)
    path = tmp_path / "mine.safetensors"
    (tmp_path / "mine.json").write_text(card)
    for name, weights, found in (
        ("prices.0.weight", {**zeros, "prices.0.weight": np.zeros((3, 3), np.float32)}, r"found shape \[3, 3\]"),
        ("prices.9.bias", {**zeros, "prices.9.bias": np.zeros(3, np.float32)}, r"accepted: None"),
        ("prices.0.bias", {**zeros, "prices.0.bias": np.full(32, np.nan, np.float32)}, "not finite"),
    ):
        save_file(weights, path)
        with pytest.raises(InputError, match=found) as error:
            load_price_policy(str(path))
        assert name in str(error.value)
    path.write_bytes(b"not a file")
    with pytest.raises(InputError, match="no policy's weights"):
        load_price_policy(str(path))
    with pytest.raises(InputError, match=r"--policy: found 'no-such', accepted: a name or a \.safetensors file"):
        load_price_policy("no-such")


def test_held_out_worlds_are_others_than_training_ones():
    kind = MIXTURE[3]
    judge = next(entry for entry in grid() if entry.arrivals == kind.arrivals)
    training, held_out = worlds_of(kind, "default", 60.0, 7, 2)[0], held_out_worlds(kind, 2)
    judged = judge.worlds(2)
    times = [tuple(world.requests.time_s[:3]) for world in (*training, *held_out, *judged)]
    assert len(set(times)) == 6


def test_the_interval_is_students():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).normal(0.3, 1, 25)
    mean, half = interval(values)
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_rollouts_of_one_multiple_are_the_rule_itself(monkeypatch):
    monkeypatch.setattr("edgesplit.service.learn.rollouts.FACTORS", (1.0,))
    rule = load_prices().rule()
    world = worlds_of(MIXTURE[-4], "default", 15, 3, 1)[0][0]
    plain = Simulation(world).run(decider(world, partial(decide, rule=rule)))
    for futures in (0, 2):
        ahead = Rollouts(rule=rule, futures=futures).play(world)
        assert np.array_equal(ahead.local_steps, plain.local_steps)
        assert np.array_equal(ahead.ended_s, plain.ended_s)


def test_rollouts_see_nothing_of_what_comes():
    rule = load_prices().rule()
    world = worlds_of(MIXTURE[-4], "default", 20, 3, 1)[0][0]
    seen = int(np.searchsorted(world.round_of, 7))
    before = [change for change in world.gpus_over_time if change[0] <= 7]
    cut = replace(world, requests=world.requests.take(slice(0, seen + 5)), gpus_over_time=before)
    whole, short = (Rollouts(rule=rule, futures=1, horizon_s=3).play(played) for played in (world, cut))
    assert np.array_equal(whole.local_steps[:seen], short.local_steps[:seen])
