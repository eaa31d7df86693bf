/** A report that `test/run.ts` adds up: each figure is a test. */
export interface Case {
  readonly title: string;
  readonly ok: boolean;
  /** Why it is not. */
  readonly message: string;
}

export function junitOf(suite: string, cases: readonly Case[]): string {
  const lines = cases.map(({ title, ok, message }) => {
    const name = `<testcase classname="${xml(suite)}" name="${xml(title)}"`;
    return ok ? `${name}/>` : `${name}><failure message="${xml(message)}"/></testcase>`;
  });
  return `<testsuites><testsuite name="${xml(suite)}">\n${lines.join("\n")}\n</testsuite></testsuites>\n`;
}

function xml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
