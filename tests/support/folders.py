"""Folders that are chosen: WebDriver BiDi cannot, so that Firefox's own dialog is replaced for the moment."""

from pathlib import Path
from typing import Any

from tests.support.browsers import Browser, Tab
from tests.support.servers import until

# Takes the place of Firefox's dialog once: the person has chosen this folder.
PICKER = """(path) => {
    const name = "@mozilla.org/filepicker;1";
    const registrar = Components.manager.QueryInterface(Ci.nsIComponentRegistrar);
    const [before, mine] = [registrar.contractIDToCID(name), Services.uuid.generateUUID()];
    const folder = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
    folder.initWithPath(path);
    const picker = {
        QueryInterface: ChromeUtils.generateQI(["nsIFilePicker"]),
        isModeSupported: () => Promise.resolve(true),
        init() {},
        appendFilters() {},
        appendFilter() {},
        appendRawFilter() {},
        close() {},
        file: folder,
        open: (callback) => Services.tm.dispatchToMainThread(() => callback.done(Ci.nsIFilePicker.returnOK)),
    };
    const factory = {
        QueryInterface: ChromeUtils.generateQI(["nsIFactory"]),
        createInstance(kind) {
            registrar.unregisterFactory(mine, factory);
            registrar.registerFactory(before, "", name, null);
            return picker.QueryInterface(kind);
        },
    };
    registrar.registerFactory(mine, "", name, factory);
}"""
# Firefox asks whether the site may have all files of the folder.
AGREE = """() => [...Services.wm.getEnumerator("navigator:browser")].some(({ gBrowser }) =>
    gBrowser.tabs.some((tab) => {
        const [asked] = gBrowser.getTabDialogBox(tab.linkedBrowser).getTabDialogManager()._dialogs;
        const yes = asked?._frame.contentWindow.Dialog?.ui?.button0;
        // It cannot be clicked at once, so that nobody does it by mistake.
        const can = yes?.disabled === false;
        if (can) {
            yes.click();
        }
        return can;
    }))"""


def _in_firefox(browser: Browser, source: str, *arguments: str) -> Any:
    """Call a function in Firefox itself, outside of all pages."""
    tree = browser.remote.call("connection.send", "browsingContext.getTree", {"moz:scope": "chrome"})
    call = {
        "functionDeclaration": source,
        "arguments": [{"type": "string", "value": argument} for argument in arguments],
        "target": {"context": tree["result"]["contexts"][0]["context"]},
        "awaitPromise": True,
    }
    return browser.remote.call("connection.send", "script.callFunction", call)["result"]["result"].get(
        "value"
    )


def choose_folder(browser: Browser, tab: Tab, button: str, path: Path) -> None:
    """Choose a folder in the dialog that a button opens."""
    if browser.kind == "chromium":
        with tab.choosing(button) as choose:
            choose(path)
        return
    _in_firefox(browser, PICKER, str(path))
    tab.click(button)
    until(lambda: _in_firefox(browser, AGREE), "Firefox's question")
