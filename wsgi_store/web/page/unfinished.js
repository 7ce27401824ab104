// @ts-check

// More than anybody leaves unfinished; the oldest are forgotten.
const MOST = 200;

/** The uploads of this device that were begun without a hash, so that their content cannot find them. */
export class Unfinished {
    /** @param {import("./api.js").Service} service */
    constructor(service) {
        this.service = service;
        this.place = `wsgi_store ${service.base.pathname} unfinished`;
    }

    /** Where it is remembered: what a guest sends by a ticket is for nobody who uses this device later. */
    get storage() {
        return this.service.credentials.ticket === undefined ? localStorage : sessionStorage;
    }

    /** @returns {Record<string, string>} the ids by what is known of a file, oldest first */
    read() {
        try {
            // What another version or somebody's hand left there may be anything.
            const found = JSON.parse(this.storage.getItem(this.place) ?? "{}");
            return found !== null && typeof found === "object" && !Array.isArray(found) ? found : {};
        } catch {
            return {};
        }
    }

    /** @param {Record<string, string>} all */
    write(all) {
        try {
            this.storage.setItem(this.place, JSON.stringify(all));
        } catch {
            // A browser may keep nothing: the file is found by its content once its hash is known.
        }
    }

    /** The upload of a file, if one was begun. @param {File} file @param {string} name */
    find(file, name) {
        return this.read()[keyOf(file, name)];
    }

    /** @param {File} file @param {string} name @param {string} id */
    remember(file, name, id) {
        const all = this.read();
        delete all[keyOf(file, name)];
        const kept = Object.entries(all).slice(1 - MOST);
        this.write({ ...Object.fromEntries(kept), [keyOf(file, name)]: id });
    }

    /** @param {File} file @param {string} name */
    forget(file, name) {
        const all = this.read();
        if (keyOf(file, name) in all) {
            delete all[keyOf(file, name)];
            this.write(all);
        }
    }
}

/** @param {File} file @param {string} name */
function keyOf(file, name) {
    return JSON.stringify([name, file.size, file.lastModified]);
}
