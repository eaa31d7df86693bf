import { ConfigError } from "../base/errors.ts";

/** What `tammar/run` is inside a module that the executable loads: such a module must not start a second program. */
export function run(): never {
  throw new ConfigError(
    "module_is_entry",
    "it calls run(), so it is the entry of a program of its own: start that instead, or name the module that exports " +
      "the application by default",
  );
}
