"""Decisions of a pass: tables of observations, without a scheduler or files."""

import dataclasses
from collections.abc import Sequence

import pytest

from hpc.cluster import actions
from hpc.cluster.actions import PlannedOrder, Progress
from hpc.cluster.cluster_sweep import ClusterRun, ClusterSweep
from hpc.cluster.decide import (
    bad_nodes,
    decide_keeper,
    decide_orders,
    decide_repairs,
    decide_waiting,
    is_over,
    jobs_to_cancel,
    keeper_wanted,
    planned_orders,
)
from hpc.cluster.job_store import Element, Launch, Order, UserRequests
from hpc.cluster.observation import KeeperStatus, Observation
from hpc.cluster.schedulers.scheduler import JobFact, JobRequest, JobState
from hpc.cluster.site.profile import LimitSettings
from hpc.cluster.status import ClusterState, RunStatus
from hpc.sweeps.retries import Retries

ANY = LimitSettings()  # of all in the partition that jobs get who name none
SMALL, LARGE = JobRequest("sweep", 60), JobRequest("sweep", 600, nodes=2)
KEEPER = JobRequest("keeper", 30)
NOW = 10_000.0


def view(
    name: str, state: str = "WAITING", needs: tuple[str, ...] = (), request: JobRequest = SMALL, **more: object
) -> RunStatus:
    run = ClusterRun(run=name, label=name, needs=needs, results=(), configs=(), request=request)
    usual = RunStatus(run, ClusterState(state), job_id=f"job-{name}", to_submit=state == "WAITING")
    return dataclasses.replace(usual, **more)  # type: ignore[arg-type]


def batches(views: list[RunStatus], limits: LimitSettings = ANY) -> list[PlannedOrder]:
    return list(planned_orders({view.run.run: view for view in views}, {"": limits}))


def runs(batch: PlannedOrder) -> list[str]:
    return [run for element in batch.elements for run in element.runs]


def sweep(keeper: JobRequest | None = None, limits: LimitSettings = ANY, node_failures: int = 5) -> ClusterSweep:
    retries = Retries(node_failures=node_failures)
    return ClusterSweep(
        name="sweep",
        profile="site",
        limits={"": limits},
        retries=retries,
        code="/code",
        folder="/",
        keeper=keeper,
        runs=(),
    )


def order(*names: str, job_id: str | None = None, age_s: float = 0.0, canceled: Sequence[int] = ()) -> Order:
    """Return an order with one task per run."""
    return Order(
        token=f"token-{names[0]}",
        job_name=f"sweep-token-{names[0]}",
        created=NOW - age_s,
        processes=1,
        walltime_min=60,
        signal_delay_s=180,
        elements=tuple(Element((name,), (1,)) for name in names),
        job_id=job_id,
        canceled=frozenset(canceled),
    )


def packed(*names: str) -> Order:
    """Return an order of one job that several runs share."""
    return dataclasses.replace(order(names[0], job_id=f"job-{names[0]}"), elements=(Element(names, (1,) * len(names)),))


def launch(token: str) -> Launch:
    return Launch(token, 0, 0, 0, started=NOW, time_up=NOW, nodes="n1", first_step=0)


def fact(job_id: str, state: JobState, token: str = "", **more: bool | int) -> JobFact:
    return JobFact(job_id, f"sweep-{token}" if token else "", state, **more)  # type: ignore[arg-type]


def seen(*views: RunStatus, **more: object) -> Observation:
    return Observation(NOW, {view.run.run: view for view in views}, **more)  # type: ignore[arg-type]


def submit(*names: str, number: int = 1, needs: tuple[str, ...] = (), excluded: tuple[str, ...] = ()) -> actions.Submit:
    elements = tuple(Element((name,), (number,)) for name in names)
    return actions.Submit(PlannedOrder(SMALL, needs, elements), excluded)


# ----------------------------------------------------------------------------------------------- repairs

LOST = order("a")
OLD = order("a", age_s=601.0)
CANCEL_A = UserRequests(frozenset({"a"}))
TASKS = order("a", "b", "c", job_id="7")
STUCK = order("a", "b", job_id="7")
HELD = fact("job-a", JobState.HELD, launch_failed=True)
NEVER = fact("7_0", JobState.PENDING, never_starts=True)
CANCELED = {"7_0": fact("7_0", JobState.CANCELED, "token-a"), "7_2": fact("7_2", JobState.CANCELED, "token-a")}


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        pytest.param(seen(view("a", "RUNNING"), orders=[TASKS]), [], id="all is well"),
        pytest.param(
            seen(orders=[LOST], found={"token-a": "9"}), [actions.NoteJobId(LOST, "9")], id="found by its name"
        ),
        pytest.param(seen(orders=[LOST], found={"token-a": None}), [], id="perhaps still on its way"),
        pytest.param(
            seen(orders=[OLD], found={"token-a": None}), [actions.Abandon(OLD)], id="never reached the scheduler"
        ),
        pytest.param(seen(orders=[OLD]), [], id="the scheduler did not say whether it has it"),
        pytest.param(
            seen(orders=[OLD], launches=[launch("token-a")], found={"token-a": None}), [], id="its job has begun"
        ),
        pytest.param(
            seen(view("a", "PENDING"), orders=[OLD], found={"token-a": None}, silence="no answer"),
            [actions.Abandon(OLD)],
            id="silence comes after the search",
        ),
        pytest.param(
            seen(orders=[TASKS], facts=CANCELED),
            [actions.NoteCanceled(TASKS, frozenset({0, 2}))],
            id="canceled tasks are noted",
        ),
        pytest.param(
            seen(orders=[dataclasses.replace(TASKS, canceled=frozenset({0, 2}))], facts=CANCELED),
            [],
            id="canceled tasks are noted once",
        ),
        pytest.param(
            seen(orders=[TASKS], facts={"7_0": fact("7_0", JobState.CANCELED, "another")}),
            [],
            id="the number of another's canceled job",
        ),
        pytest.param(
            seen(view("a", "RUNNING"), view("b", "RUNNING"), requests=CANCEL_A),
            [actions.CancelJobs(("job-a",))],
            id="users' cancellations are enforced",
        ),
        pytest.param(seen(view("a", "FAILED"), requests=CANCEL_A), [], id="nothing of it is left to cancel"),
        pytest.param(
            seen(view("a", "RUNNING"), orders=[packed("a", "b")], requests=CANCEL_A), [], id="its job is another's too"
        ),
        pytest.param(
            seen(view("a", "RUNNING"), view("b", "DONE"), orders=[packed("a", "b")], requests=CANCEL_A),
            [actions.CancelJobs(("job-a",))],
            id="the other one is done",
        ),
        pytest.param(
            seen(view("a", "PENDING", fact=NEVER, job_id="7_0"), orders=[STUCK]),
            [actions.Abandon(STUCK, never_starts=True)],
            id="waits for a job that did not end well",
        ),
        pytest.param(
            seen(view("a", "PENDING", fact=NEVER, job_id="7_0"), orders=[STUCK], launches=[launch("token-a")]),
            [],
            id="a task of the array has begun",
        ),
        pytest.param(
            seen(view("a", "HELD", fact=HELD)), [actions.Release("job-a", "a")], id="held after a failed launch"
        ),
        pytest.param(
            seen(view("a", "HELD", fact=dataclasses.replace(HELD, launch_failed=False))), [], id="held by a person"
        ),
        pytest.param(
            seen(view("a", "HELD", fact=dataclasses.replace(HELD, restarts=6))), [], id="its launch failed too often"
        ),
    ],
)
def test_repairs(observation: Observation, expected: list[actions.Action]) -> None:
    assert decide_repairs(observation, sweep()) == expected


def test_a_run_that_left_the_sweep_has_no_job_to_cancel() -> None:
    assert jobs_to_cancel(seen(view("a", "RUNNING")), ["gone", "a"]) == ("job-a",)


# ------------------------------------------------------------------------------------------------ orders

AB = [view("a"), view("b")]
NEEDS_A = view("c", needs=("a",))
KIND_AB = submit("a", "b").planned.kind
ONE_PLACE = Progress(full=frozenset({None}), keeper="9")


@pytest.mark.parametrize(
    ("views", "so_far", "expected"),
    [
        pytest.param([], Progress(), [], id="no runs"),
        pytest.param(AB, Progress(), [submit("a", "b")], id="all at once"),
        pytest.param(AB, Progress(jobs={"a": "7_0"}, ordered=1), [submit("b")], id="the rest"),
        pytest.param(AB, Progress(at_most={KIND_AB: 1}), [submit("a"), submit("b")], id="a refused array is cut"),
        pytest.param(AB, Progress(hopeless={"a": "no"}), [submit("b")], id="a refused run is left out"),
        pytest.param(AB, Progress(full=frozenset({None})), [], id="the queue is full"),
        pytest.param(AB, Progress(full=frozenset({"other"})), [submit("a", "b")], id="another queue is"),
        pytest.param(AB, Progress(unanswered=True), [], id="no answer, so no more"),
        pytest.param(
            [view("a"), NEEDS_A],
            Progress(),
            [submit("a"), submit("c", needs=("a",))],
            id="needs before what needs them",
        ),
        pytest.param([view("a"), NEEDS_A], Progress(hopeless={"a": "no"}), [], id="its need was refused"),
        pytest.param(
            [view("a"), NEEDS_A], Progress(jobs={"a": "7"}, ordered=1), [submit("c", needs=("a",))], id="its need waits"
        ),
        pytest.param(
            [view("a", lost_on=("n1", "n1"))], Progress(), [submit("a", excluded=("n1",))], id="not to a bad node"
        ),
        pytest.param(
            [view("a", lost_on=("n1", "n1"))], Progress(all_nodes_needed=True), [submit("a")], id="unless it is needed"
        ),
        pytest.param(AB, ONE_PLACE, [actions.DismissKeeper("9", for_room=True)], id="the keeper has the only place"),
        pytest.param(
            AB, dataclasses.replace(ONE_PLACE, keeper_dismissed=True), [], id="the queue is full without a keeper, too"
        ),
        pytest.param(AB, dataclasses.replace(ONE_PLACE, ordered=1), [], id="the keeper is not in the way"),
        pytest.param([*AB, view("d", "RUNNING")], ONE_PLACE, [], id="there is something to wait for"),
    ],
)
def test_orders(views: list[RunStatus], so_far: Progress, expected: list[actions.Action]) -> None:
    assert decide_orders(seen(*views), sweep(KEEPER), so_far, KeeperStatus()) == expected


def test_places_are_kept_free_for_keepers_alone() -> None:
    three = [view("a"), view("b"), view("c")]
    limits = LimitSettings(submitted=3)
    assert decide_orders(seen(*three), sweep(KEEPER, limits), Progress(), KeeperStatus()) == [submit("a")]
    assert decide_orders(seen(*three), sweep(None, limits), Progress(), KeeperStatus()) == [submit("a", "b", "c")]


def test_what_was_submitted_in_this_pass_takes_room() -> None:
    three = [view("a"), view("b"), view("c")]
    so_far = Progress(jobs={"a": "7"}, ordered=1)
    assert decide_orders(seen(*three), sweep(None, LimitSettings(submitted=2)), so_far, KeeperStatus()) == [submit("b")]


def test_every_refusal_brings_the_pass_nearer_to_its_end() -> None:
    """An array is halved down to one task, and then its queue is full."""
    four, so_far, lengths = [view(name) for name in "abcd"], Progress(), []
    while expected := decide_orders(seen(*four), sweep(), so_far, KeeperStatus()):
        assert isinstance(expected[0], actions.Submit)
        planned = expected[0].planned
        lengths.append(len(planned.elements))
        if lengths[-1] > 1:
            so_far = dataclasses.replace(so_far, at_most={planned.kind: lengths[-1] // 2})
        else:
            so_far = dataclasses.replace(so_far, full=frozenset({None}))
    assert lengths == [4, 2, 1]


@pytest.mark.parametrize(
    ("lost_on", "bad"),
    [
        (("n1",), ()),
        (("n1", "n2", "n1"), ("n1",)),
        (("n2", "n1", "n2", "n1"), ("n1", "n2")),
        (tuple(f"n{number % 11}" for number in range(22)), ()),  # something else is wrong
    ],
)
def test_bad_nodes(lost_on: tuple[str, ...], bad: tuple[str, ...]) -> None:
    assert bad_nodes({"a": view("a", lost_on=lost_on)}) == bad


# ------------------------------------------------------------------------------------------------ keeper

RUNNING, FAILED = view("a", "RUNNING"), view("a", "FAILED")
UNDECIDED = view("a", "LOST", undecided=True)


@pytest.mark.parametrize(
    ("run", "keeper", "expected"),
    [
        pytest.param(RUNNING, KeeperStatus(), [actions.LeaveKeeper()], id="none waits"),
        pytest.param(view("a"), KeeperStatus(), [actions.LeaveKeeper()], id="something is to be submitted"),
        pytest.param(UNDECIDED, KeeperStatus(), [actions.LeaveKeeper()], id="something will be known later"),
        pytest.param(FAILED, KeeperStatus(), [], id="nothing to wait for"),
        pytest.param(RUNNING, KeeperStatus("9"), [], id="one waits"),
        pytest.param(
            RUNNING, KeeperStatus("9", noted=False), [actions.NoteKeeper("9")], id="one waits that nobody noted"
        ),
        pytest.param(
            RUNNING, KeeperStatus(held=("8",)), [actions.CancelJobs(("8",)), actions.LeaveKeeper()], id="a held one"
        ),
        pytest.param(RUNNING, KeeperStatus(silence="away"), [actions.LackKeeper("away")], id="no answer"),
    ],
)
def test_a_keeper_is_left(run: RunStatus, keeper: KeeperStatus, expected: list[actions.Action]) -> None:
    assert (decide_keeper(keeper) if keeper_wanted(seen(run), sweep(KEEPER)) else []) == expected
    assert not keeper_wanted(seen(run), sweep(None))


@pytest.mark.parametrize(
    ("run", "keeper", "expected"),
    [
        pytest.param(RUNNING, KeeperStatus("9"), [actions.KeeperWaitsFor("9", ("job-a",))], id="for what runs"),
        pytest.param(UNDECIDED, KeeperStatus("9"), [actions.KeeperWaitsFor("9", ())], id="for its time"),
        pytest.param(FAILED, KeeperStatus("9"), [actions.DismissKeeper("9")], id="for nothing"),
        pytest.param(RUNNING, KeeperStatus(), [], id="there is none"),
        pytest.param(
            FAILED,
            KeeperStatus("9", held=("8",)),
            [actions.CancelJobs(("8",)), actions.DismissKeeper("9")],
            id="a held one goes too",
        ),
        pytest.param(RUNNING, KeeperStatus(silence="away"), [actions.PrintLine("away")], id="no answer"),
    ],
)
def test_what_a_keeper_waits_for(run: RunStatus, keeper: KeeperStatus, expected: list[actions.Action]) -> None:
    assert decide_waiting(seen(run), Progress(), keeper) == expected


def test_a_keeper_waits_for_fifty_jobs_at_most() -> None:
    many = [view(f"run-{number}", "PENDING") for number in range(60)]
    [action] = decide_waiting(seen(*many), Progress(), KeeperStatus("9"))
    assert isinstance(action, actions.KeeperWaitsFor)
    assert len(action.others) == 50


def test_refused_runs_keep_a_sweep_from_nothing() -> None:
    runs = {"a": view("a"), "b": view("b", "DONE")}
    assert not is_over(runs, {})
    assert is_over(runs, {"a"})


# ------------------------------------------------------------------------- as arrays that the site takes


def test_those_that_ask_for_the_same_are_one_array() -> None:
    first, second = batches([view("a"), view("b", request=LARGE), view("c")])
    assert (runs(first), runs(second)) == (["a", "c"], ["b"])
    assert first.request == SMALL


def test_only_what_may_be_ordered_is() -> None:
    states = ["PENDING", "RUNNING", "DONE", "FAILED", "HELD", "CANCELED", "SKIPPED"]
    assert batches([view(state, state) for state in states]) == []
    (batch,) = batches([view("a", "TIMEOUT", to_submit=True, submission=2), view("b", "TIMEOUT", to_submit=False)])
    assert (runs(batch), batch.elements[0].submissions) == (["a"], (3,))


def test_needs_come_first_and_are_waited_for() -> None:
    base, decoder = view("base"), view("decoder", "RUNNING")
    points = [view("a", needs=("base",)), view("b", needs=("base", "decoder")), view("c", needs=("decoder",))]
    first, second, third, fourth = batches([base, decoder, *points])
    assert [runs(batch) for batch in (first, second, third, fourth)] == [["base"], ["a"], ["b"], ["c"]]
    assert [batch.needs for batch in (second, third, fourth)] == [("base",), ("base", "decoder"), ("decoder",)]


def test_what_is_trained_is_not_waited_for() -> None:
    (batch,) = batches([view("base", "FAILED", trained=True), view("a", needs=("base",))])
    assert batch.needs == ()


def test_nothing_is_ordered_for_a_need_that_is_held_or_has_no_room() -> None:
    assert batches([view("base", "HELD"), view("a", needs=("base",))]) == []
    (only,) = batches([view("base"), view("a", needs=("base",))], LimitSettings(submitted=1))
    assert runs(only) == ["base"]


def test_nothing_is_ordered_for_a_need_whose_job_has_no_number_yet() -> None:
    """Without it there is nothing to wait for, and the dependents would start at once."""
    unnumbered = view("base", "PENDING", job_id=None)
    assert batches([unnumbered, view("a", needs=("base",))]) == []


def test_arrays_are_no_larger_than_the_site_takes() -> None:
    views = [view(f"run-{number}") for number in range(10)]
    assert [len(batch.elements) for batch in batches(views, LimitSettings(array_tasks=4))] == [4, 4, 2]
    assert [len(batch.elements) for batch in batches(views, LimitSettings(array_index=2))] == [3, 3, 3, 1]


def test_no_more_than_the_queue_takes() -> None:
    views = [view("x", "RUNNING"), view("y", "PENDING"), *(view(f"run-{number}") for number in range(10))]
    assert [len(batch.elements) for batch in batches(views, LimitSettings(submitted=7, array_tasks=3))] == [3, 2]
    assert batches(views, LimitSettings(submitted=2)) == []


def test_packed_runs_share_a_job() -> None:
    packed = JobRequest("sweep", 60, runs=3)
    views = [view(f"run-{number}", request=packed) for number in range(7)]
    found = [[len(element.runs) for element in batch.elements] for batch in batches(views)]
    assert found == [[3, 3], [1]]  # the last one asks for less
