"""A scheduler for vLLM's --scheduler-cls that schedules as vLLM's own does and notes what happens, and when.

INFERLOOM_RECORD names the file: one JSON array a line. Times are seconds of CLOCK_MONOTONIC, which all processes of a
machine share.

  ["add", t, request]                                 a request reached the scheduler
  ["plan", t, step, running, waiting, used,           a step was planned; used is the share of KV blocks held
   [[request, computed, tokens], ...], [request...]]  what it computes, and whom it preempted
  ["end", t, step]                                    the step's output is there
"""

import json
import os
import time

from vllm.v1.core.sched.scheduler import Scheduler


class RecordingScheduler(Scheduler):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._log = open(os.environ["INFERLOOM_RECORD"], "a", buffering=1 << 16)
        self._steps = 0

    def _note(self, *what):
        self._log.write(json.dumps(what) + "\n")

    def add_request(self, request):
        self._note("add", time.monotonic(), request.request_id)
        super().add_request(request)

    def schedule(self, *args, **kwargs):
        before = time.monotonic()
        preempted = {r: self.requests[r].num_preemptions for r in self.requests}
        output = super().schedule(*args, **kwargs)
        tokens = output.num_scheduled_tokens
        if tokens:
            output.inferloom_step = self._steps
            self._steps += 1
            self._note(
                "plan", before, output.inferloom_step, len(self.running), len(self.waiting),
                self.kv_cache_manager.usage,
                [[r, self.requests[r].num_computed_tokens - n, n] for r, n in tokens.items()],
                [r for r, n in preempted.items() if self.requests[r].num_preemptions > n],
            )
        return output

    def update_from_output(self, scheduler_output, model_runner_output):
        step = getattr(scheduler_output, "inferloom_step", None)
        if step is not None:
            self._note("end", time.monotonic(), step)
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        if not self.running:
            self._log.flush()
        return outputs

