"""The driver's logic: which worker does what, what follows from failures, when the job ends.

Layer 4. Events in, commands out (`driver_messages`): no Ray, no clock, no I/O, so that a simulator
can test it. The state machine is `state_machine.Dispatch`; `runtime` is the shell around it.
"""
