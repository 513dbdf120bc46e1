"""What is ordered next, in arrays that the site takes."""

import dataclasses

from hpc.cluster.cluster_sweep import ClusterRun
from hpc.cluster.queue import Batch, due
from hpc.cluster.site.profile import LimitSettings
from hpc.cluster.site.requests import JobRequest
from hpc.cluster.states import ClusterState, View

ANY = LimitSettings()  # all in the partition that jobs get who name none
SMALL, LARGE = JobRequest("sweep", 60), JobRequest("sweep", 600, nodes=2)


def view(
    name: str,
    state: str = "WAITING",
    needs: tuple[str, ...] = (),
    request: JobRequest = SMALL,
    trained: bool = False,
    attempt: int = 0,
    to_submit: bool | None = None,
) -> View:
    run = ClusterRun(run=name, label=name, needs=needs, results=(), configs=(), request=request)
    orderable = state == "WAITING" if to_submit is None else to_submit
    return View(run, ClusterState(state), trained, attempt, f"job-{name}", to_submit=orderable)


def batches(views: list[View], limits: LimitSettings = ANY) -> list[Batch]:
    return list(due({view.run.run: view for view in views}, {"": limits}))


def runs(batch: Batch) -> list[str]:
    return [run for element in batch.elements for run in element.runs]


def test_those_that_ask_for_the_same_are_one_array() -> None:
    first, second = batches([view("a"), view("b", request=LARGE), view("c")])
    assert (runs(first), runs(second)) == (["a", "c"], ["b"])
    assert first.request == SMALL


def test_only_what_may_be_ordered_is() -> None:
    states = ["PENDING", "RUNNING", "DONE", "FAILED", "HELD", "CANCELLED", "SKIPPED"]
    assert batches([view(state, state) for state in states]) == []
    (batch,) = batches([view("a", "TIMEOUT", to_submit=True, attempt=2), view("b", "TIMEOUT", to_submit=False)])
    assert (runs(batch), batch.elements[0].attempts) == (["a"], (3,))


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
    unnumbered = dataclasses.replace(view("base", "PENDING"), job_id=None)
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
