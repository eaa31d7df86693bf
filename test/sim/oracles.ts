/** The oracles that are asked of every run. */
import { o2pc } from "../../src/simulation/oracles/o_2pc.ts";
import { oAck } from "../../src/simulation/oracles/o_ack.ts";
import { oAuth } from "../../src/simulation/oracles/o_auth.ts";
import { oBank } from "../../src/simulation/oracles/o_bank.ts";
import { oFailclear } from "../../src/simulation/oracles/o_failclear.ts";
import { oLetters } from "../../src/simulation/oracles/o_letters.ts";
import { oLin } from "../../src/simulation/oracles/o_lin.ts";
import { oLive } from "../../src/simulation/oracles/o_live.ts";
import { oMem } from "../../src/simulation/oracles/o_mem.ts";
import { oModel } from "../../src/simulation/oracles/o_model.ts";
import { oOwn } from "../../src/simulation/oracles/o_own.ts";
import { oSeq } from "../../src/simulation/oracles/o_seq.ts";
import { oStayup } from "../../src/simulation/oracles/o_stayup.ts";
import type { Oracle } from "../../src/simulation/oracles/oracle.ts";
import { oRetries } from "../../src/simulation/oracles/retries.ts";
import { oRot } from "../../src/simulation/oracles/rot.ts";
import { oSilence } from "../../src/simulation/oracles/silence.ts";
import { oTimers } from "../../src/simulation/oracles/timers.ts";

export const ORACLES: readonly Oracle[] = [
  oStayup,
  oRot,
  oLive,
  oRetries,
  oSilence,
  oSeq,
  oModel,
  oOwn,
  oLin,
  oMem,
  oTimers,
  oAuth,
  oFailclear,
  oBank,
  o2pc,
  oAck,
  oLetters,
];
