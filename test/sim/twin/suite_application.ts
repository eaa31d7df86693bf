/** An application of the suite as a module that `--application-module` can name. Which one is known when it is bundled. */
import { application, option } from "../../../mod.ts";
import type { ApplicationName } from "../../../src/simulation/scenario.ts";
import { SUITE } from "../../../src/simulation/suite.ts";

declare const SUITE_NAME: ApplicationName;

const options = {
  keys: option.number({ default: 1, help: "Keys of each generator" }),
  messages: option.number({ default: 0, help: "Records of each generator" }),
};
const { build } = SUITE[SUITE_NAME];
const { name } = build({ keys: 1, messages: 0 });

export default application(name, { options }, (context) => {
  const { keys, messages } = context.options;
  return build({ keys, messages }).build({ ...context, options: {} });
});
