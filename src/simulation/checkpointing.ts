/** The one switch: with it on, the crash points and rare states that only checkpoints bring are asked for. */
export const CHECKPOINTS_ON: boolean = true;
