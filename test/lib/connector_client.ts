export * from "../../src/simulation/environment/connector_program.ts";
