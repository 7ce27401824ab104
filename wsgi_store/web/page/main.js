// @ts-check

/** The URL of the service, whatever the prefix under which it is mounted. */
export const base = new URL("../../", import.meta.url);
