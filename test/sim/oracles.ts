/** The oracles that are asked of every run. */
import { oLive } from "../../src/simulation/oracles/o_live.ts";
import { oModel } from "../../src/simulation/oracles/o_model.ts";
import { oSeq } from "../../src/simulation/oracles/o_seq.ts";
import { oStayup } from "../../src/simulation/oracles/o_stayup.ts";
import type { Oracle } from "../../src/simulation/oracles/oracle.ts";

export const ORACLES: readonly Oracle[] = [oStayup, oLive, oSeq, oModel];
