"""How a run can end, and how an interrupted one goes on.

Does not know what is trained.
Public: `supervise.supervise`, `stop.StopRequest`, `faults.Patience, OutsideFault`, `resume.last_checkpoint`.
"""
