/**
 * By how much limits of waits are drawn out: what is written is ample on a quiet machine, and a limit is there to end what
 * hangs, also on a machine that is slow or has more to do.
 */
export const patience = 5
