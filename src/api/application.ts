import { PlanError } from "../base/errors.ts";
import { checkFunction, checkName } from "./graph.ts";
import type { OptionSpecs, OptionValues } from "./options.ts";
import type { Pipeline } from "./stream.ts";

/** Marks what `application` returns, whichever copy of the library made it. */
export const APPLICATION: unique symbol = Symbol.for("tammar.application") as never;

/** What `build` may know: the same on every worker but for `worker` and `workers`, as all workers must plan the same graph. */
export interface BuildContext<O extends OptionSpecs = OptionSpecs> {
  /** The whole command line after the command's name, if the application asked for `rawArguments`; else empty. */
  readonly args: readonly string[];
  /** A value for each declared option. */
  readonly options: OptionValues<O>;
  /** Name of this worker; the first one of a cluster is `initializer`. */
  readonly worker: string;
  /** `--worker-count` on the initializer; 0 on the others, which do not know it yet. The graph must not depend on it. */
  readonly workers: number;
  /** Names given in `--in`, in that order: for an application that adopts whatever name it is given. */
  readonly inputs: readonly string[];
}

/** What a module default-exports. A factory: `build` is called anew for each start of a worker. */
export interface Application {
  readonly [APPLICATION]: true;
  readonly name: string;
  readonly options: OptionSpecs;
  readonly wantsRawArguments: boolean;
  build(context: BuildContext): Pipeline | readonly Pipeline[];
}

export interface ApplicationSettings<O extends OptionSpecs> {
  /** Options of the command line beside the worker's own. */
  readonly options?: O;
  /** Reads the command line itself: `build` gets it as `args`, and unknown options are its own business. */
  readonly rawArguments?: boolean;
}

type Build<O extends OptionSpecs> = (context: BuildContext<O>) => Pipeline | readonly Pipeline[];

/**
 * Declares an application; export it as the module's default.
 *
 * @param name Shown to operators and saved with the cluster; 1 to 200 characters.
 * @param build Makes the pipelines. Must give the same graph for the same options on every worker, and make its streams
 *   itself: it is called anew for each start of a worker.
 * @throws {PlanError} If the name is no text or `build` no function.
 */
export function application(name: string, build: Build<Record<never, never>>): Application;
export function application<const O extends OptionSpecs>(
  name: string,
  settings: ApplicationSettings<O>,
  build: Build<O>,
): Application;
export function application(
  name: string,
  settings: ApplicationSettings<OptionSpecs> | Build<never>,
  build?: Build<never>,
): Application {
  checkName("an application", name);
  const make = typeof settings === "function" ? settings : build;
  const { options = {}, rawArguments = false } = typeof settings === "function" ? {} : (settings ?? {});
  checkFunction(`application ${JSON.stringify(name)}`, "build", make);
  for (const [option, spec] of Object.entries(options)) checkOption(name, option, spec);
  return { [APPLICATION]: true, name, options, wantsRawArguments: rawArguments, build: make as Build<OptionSpecs> };
}

/** Is this what `application` returns? */
export function isApplication(value: unknown): value is Application {
  return typeof value === "object" && value !== null && (value as Partial<Application>)[APPLICATION] === true;
}

function checkOption(name: string, option: string, spec: unknown): void {
  const kind = (spec as { kind?: unknown } | null | undefined)?.kind;
  const known = kind === "number" || kind === "string" || kind === "boolean";
  if (known && /^[a-z][A-Za-z0-9]*$/.test(option)) return;
  throw new PlanError(
    "option_invalid",
    `application ${JSON.stringify(name)}: option ${JSON.stringify(option)}: ` +
      "name it in camel case (windowSize is --window-size) and make it with option.number, option.string or option.boolean",
  );
}
