"""The paired policy gradient: what it credits, what it learns, and that it goes on where it was."""

from dataclasses import replace
from functools import partial
from itertools import pairwise, product

import numpy as np
import pytest
from scipy.stats import poisson

from edgesplit.common.errors import InputError
from edgesplit.service.arrivals import parse_gpus, parse_process
from edgesplit.service.learn.judging import AHEAD, grid, interval, lookers, main
from edgesplit.service.learn.paired import PairedLearner, PairedSettings, Trial, explore, from_then_on
from edgesplit.service.learn.rollouts import Law, Rollouts, burst_probability
from edgesplit.service.learn.training import MIXTURE, held_out_worlds, scores, train, words
from edgesplit.service.learn.vector_simulation import VectorSimulation, formula_pricing, tuned_pricing
from edgesplit.service.price_file import load_prices
from edgesplit.service.price_policy import OUTPUTS, PricePolicy, load_price_policy, shapes
from edgesplit.service.scheduler import by_load, decide, revise
from edgesplit.service.simulator import Simulation, decider, reviser
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
    assert untrained == pytest.approx(VectorSimulation(worlds).run(formula_pricing), rel=1e-2)


def test_a_trial_without_exploration_is_the_policy():
    worlds, weights = kinds()[1], learner().mean
    trial = Trial(weights, np.zeros((len(worlds), 99, OUTPUTS)), [])
    assert np.array_equal(
        VectorSimulation(worlds).run(trial), VectorSimulation(worlds).run(PricePolicy(weights).prices)
    )


@pytest.mark.parametrize("persistence", [0.0, 0.9])
def test_the_credit_is_the_derivative_of_the_likelihood_of_the_moves(persistence):
    rounds, noise, rng = 12, 0.3, np.random.default_rng(5)
    explored = explore((2, rounds, OUTPUTS), noise, persistence, rng)
    covariance = noise**2 * persistence ** np.abs(np.subtract.outer(np.arange(rounds), np.arange(rounds)))
    whole = np.linalg.solve(covariance, explored.moves)  # of a gain that comes at the very end, for all rounds alike
    assert np.allclose(explored.gradient(np.ones((2, rounds, 1))), whole)


def test_moves_have_the_deviation_and_the_persistence_that_are_asked_for():
    moves = explore((4000, 8, 1), 0.2, 0.9, np.random.default_rng(6)).moves[:, :, 0]
    assert np.allclose(moves.std(axis=0), 0.2, rtol=0.05)
    assert np.corrcoef(moves[:, 3], moves[:, 4])[0, 1] == pytest.approx(0.9, abs=0.02)


def test_a_world_explores_one_output_alone_and_all_of_them_in_turn():
    explored = explore((4, 6, OUTPUTS), 0.2, 0.9, np.random.default_rng(8))
    for first in range(3):
        alone = explored.of_one(first)
        for world in range(4):
            own = (world + first) % OUTPUTS
            for output in range(OUTPUTS):
                kept = float(output == own)
                assert np.array_equal(alone.moves[world, :, output], kept * explored.moves[world, :, output])
                assert np.array_equal(alone.score[world, :, output], kept * explored.score[world, :, output])


def test_the_estimate_is_the_gradient_on_average():
    rng, rounds = np.random.default_rng(7), 6
    effect = np.tril(rng.normal(size=(rounds, rounds)))  # of every move on the gain of its round and of later ones
    explored = explore((200_000, rounds, 1), 0.2, 0.9, rng)
    later = from_then_on(2 * explored.moves[:, :, 0] @ effect.T)[:, :, None]
    estimate = (explored.gradient(later) / 2).mean(axis=0)[:, 0]
    assert estimate == pytest.approx(effect.sum(axis=0), abs=0.15)


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
    said = {words(kind): policy.card.scores[words(kind)] for kind in kinds}
    assert scores(policy, policy.revises, kinds) == said
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
    before = VectorSimulation(busy[0], revises=True).run(PricePolicy(student.network.weights()).prices).sum()
    for _ in range(settings.steps):
        student.step()
    after = VectorSimulation(busy[0], revises=True).run(PricePolicy(student.network.weights()).prices).sum()
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


LAW = Law(parse_process("bursts:2,14,10"), parse_gpus("random:10,2,4,8"))
TUNED = load_prices().rule()


@pytest.mark.parametrize("more", [{}, {"law": LAW}, {"known": frozenset(["arrivals", "gpus"])}, {"revises": True}])
def test_rollouts_of_one_multiple_are_the_rule_itself(more, monkeypatch):
    monkeypatch.setattr("edgesplit.service.learn.rollouts.FACTORS", np.array([1.0]))
    world = worlds_of(MIXTURE[-4], "default", 15, 3, 1)[0][0]
    own = reviser(world, partial(revise, terms_of=by_load(TUNED))) if "revises" in more else None
    plain = Simulation(world, revise=own).run(decider(world, partial(decide, rule=TUNED)))
    ahead = Rollouts(pricing=tuned_pricing(TUNED), futures=2, **more).play(world)
    assert np.array_equal(ahead.local_steps, plain.local_steps)
    assert np.array_equal(ahead.ended_s, plain.ended_s)


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        (["--worlds", "1"], "2 worlds or more"),
        (["--only", "no such"], "words of a kind's name, of poisson:1, 8 GPUs; "),
        (["--ahead", "--only", "batches queue"], "words of a kind's name"),
        (["--from-day", "3"], "--from-day: found it without --trace"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is_played(words, accepted, monkeypatch):
    monkeypatch.setattr("sys.argv", ["judging", *words])
    with pytest.raises(InputError, match=accepted):
        main()


def test_the_table_of_those_who_look_ahead_has_a_column_for_each():
    kind = next(entry for entry in grid() if entry.gpus_over_time)
    found = lookers(kind, load_price_policy("mixed"))
    assert len(found) == len(AHEAD)
    assert kind.law == Law(parse_process(kind.arrivals), parse_gpus(kind.gpus_over_time))


@pytest.mark.parametrize("law", [None, LAW])
@pytest.mark.parametrize("known", [(), ("arrivals",), ("gpus",)])
def test_rollouts_see_nothing_of_what_comes_but_what_they_are_told(law, known):
    world = worlds_of(MIXTURE[-4], "default", 20, 3, 1)[0][0]
    seen = int(np.searchsorted(world.round_of, 7))
    before = [change for change in world.gpus_over_time if change[0] <= 7]
    cut = replace(
        world,
        requests=world.requests if "arrivals" in known else world.requests.take(slice(0, seen + 5)),
        gpus_over_time=world.gpus_over_time if "gpus" in known else before,
    )
    looker = Rollouts(pricing=tuned_pricing(TUNED), futures=1, horizon_s=3, law=law, known=frozenset(known))
    whole, short = (looker.play(played) for played in (world, cut))
    assert np.array_equal(whole.local_steps[:seen], short.local_steps[:seen])


def test_the_filter_of_bursts_is_bayes_over_all_paths():
    process, counts = parse_process("bursts:1,4,3"), (0, 5, 1, 3)
    past = np.concatenate([round_ + np.linspace(0.1, 0.9, count) for round_, count in enumerate(counts)])
    other, weight = (1 - np.exp(-2 / 3)) / 2, np.zeros(2)
    for path in product((0, 1), repeat=len(counts) + 1):  # the rate of each round, and of the moment after them
        chance = 0.5 * np.prod([other if a != b else 1 - other for a, b in pairwise(path)])
        rates = [(1.0, 4.0)[state] for state in path[:-1]]
        weight[path[-1]] += chance * poisson.pmf(counts, rates).prod()
    assert burst_probability(process, past, float(len(counts))) == pytest.approx(weight[1] / weight.sum())
    assert burst_probability(parse_process("poisson:5"), past, 4.0) == 0


def test_a_law_draws_what_the_worlds_draw():
    rng, law = np.random.default_rng(8), Law(parse_process("bursts:0,20,1000"), parse_gpus("random:5,2,4"))
    busy = np.sort(rng.uniform(0, 10, 200))
    times = [law.arrivals(busy, 10.0, 15.0, rng) for _ in range(50)]
    assert np.mean([one.size for one in times]) == pytest.approx(300, rel=0.05)
    assert all(one[0] >= 10 and one[-1] <= 25 and (np.diff(one) >= 0).all() for one in times)
    changes = [law.changes(10.0, 15.0, rng) for _ in range(400)]
    assert np.mean([len(one) for one in changes]) == pytest.approx(3, rel=0.1)
    assert {gpus for one in changes for _, gpus in one} == {2, 4}
    assert all(10 < time_s < 25 for one in changes for time_s, _ in one)
    assert Law(parse_process("poisson:2")).changes(0.0, 15.0, rng) == []
