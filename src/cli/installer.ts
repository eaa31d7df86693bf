/** What `tammar links` needs from the machine beyond the runtime's seam; each `main_*` brings it. */
export interface Installer {
  /** The executable itself, absolute, symbolic links resolved. */
  readonly executable: string;
  /** Makes a symbolic link. `in_the_way`: there is something else at `path`, which is left alone. */
  link(target: string, path: string): Promise<"made" | "in_the_way">;
}
