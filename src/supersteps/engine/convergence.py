"""`Convergence`: how many supersteps a run may take before somebody has to look at it."""

from __future__ import annotations

from supersteps.engine.equipment import Setting
from supersteps.engine.plan import Plan, moving
from supersteps.engine.position import Position
from supersteps.errors import WorkflowConvergenceError


class Convergence:
    """Counts the supersteps since the last input, and refuses those that are too many."""

    def __init__(self, setting: Setting, position: Position) -> None:
        self._setting = setting
        self._position = position

    def count(self, planned: Plan) -> int:
        """Return how many supersteps since the last input there are once this one is done.

        The very first of a run does not count. An answer begins anew, and so does a timer: what
        waits for its time does not run in circles, and repeated calls have a limit of their own.
        A sub-workflow counts those in which it moves.

        Raises:
            WorkflowConvergenceError: It would be one too many, of the workflow or of a
                sub-workflow.
        """
        here = self._position
        if here.iteration and not (planned.answers or planned.replies or planned.timers):
            self._check(planned)
        if planned.answers or planned.timers:
            return 1
        return here.steps_since_input + (1 if here.iteration and self._moves_root(planned) else 0)

    def _check(self, planned: Plan) -> None:
        here, setting = self._position, self._setting
        for path in sorted(moving(planned, here.state) - {""}) if here.state.sub_runs else ():
            limit = setting.levels.at(path).stand_in.__supersteps__.workflow.max_iterations
            if here.state.sub_runs[path].steps > limit:  # the very first does not count
                raise WorkflowConvergenceError(
                    f"sub-workflow {path!r} of run {setting.run_id!r} did not converge after {limit} iterations "
                    "(max_iterations of the inner workflow). Raise it if it should, and resume the run."
                )
        if here.steps_since_input < setting.max_iterations or not self._moves_root(planned):
            return
        targets = ", ".join(sorted(map(repr, planned.calls)))
        resume = (
            "Its checkpoint is saved: resume it with a workflow whose max_iterations is higher."
            if setting.store is not None
            else "Raise max_iterations if it should."
        )
        raise WorkflowConvergenceError(
            f"run {setting.run_id!r} of workflow {setting.workflow_id!r} did not converge after "
            f"{setting.max_iterations} iterations (max_iterations): messages are still on their way to {targets}. "
            f"{resume}"
        )

    def _moves_root(self, planned: Plan) -> bool:
        """Return whether the superstep moves the workflow itself and not only sub-workflows."""
        state = self._position.state
        return not state.sub_runs or "" in moving(planned, state)
