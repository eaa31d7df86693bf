/** The applications of the suite as a module that `--application-module` can name; `--suite` says which one. */
import { application, option } from "../../../mod.ts";
import { SUITE } from "../../../src/simulation/suite.ts";

const options = {
  suite: option.string({ default: "last_four", help: "Which application of the suite" }),
  keys: option.number({ default: 1, help: "Keys of each generator" }),
  messages: option.number({ default: 0, help: "Records of each generator" }),
};

export default application("Suite", { options }, (context) => {
  const { suite, keys, messages } = context.options;
  if (!Object.hasOwn(SUITE, suite)) throw new Error(`--suite ${suite}: there is ${Object.keys(SUITE).join(", ")}`);
  return SUITE[suite as keyof typeof SUITE].build({ keys, messages }).build({ ...context, options: {} });
});
