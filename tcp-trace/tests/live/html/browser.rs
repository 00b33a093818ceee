//! Chromium without a window, driven through a pipe: JSON messages with a NUL behind each (`--remote-debugging-pipe`).

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

/// A browser with one page.
pub(super) struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    profile: PathBuf,
    /// Of the page; empty before there is one.
    session: String,
    last: u64,
    /// What the page has asked for.
    pub(super) requests: Vec<String>,
    /// What the console has said, and what has failed.
    pub(super) complaints: Vec<String>,
}

impl Browser {
    pub(super) fn start() -> Self {
        let profile = env::temp_dir().join(format!("tcp-trace-browser-{}", std::process::id()));
        // The shell puts its own input and output where the browser looks for them.
        let script = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args([
                "-c",
                script,
                "sh",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-pipe",
            ])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Self {
            child,
            input,
            output,
            profile,
            session: String::new(),
            last: 0,
            requests: Vec::new(),
            complaints: Vec::new(),
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach);
        attached["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.requests.clear();
        browser
    }

    /// Opens a page, and waits until it is there.
    pub(super) fn open(&mut self, url: &str) {
        self.call("Page.navigate", &json!({"url": url}));
        while self.message()["method"] != "Page.loadEventFired" {}
    }

    /// The value of an expression.
    pub(super) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "userGesture": true});
        let answer = self.call("Runtime.evaluate", &parameters);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].clone()
    }

    /// Three sizes in light and dark, and on paper.
    pub(super) fn screenshots(&mut self, folder: &Path) {
        for scheme in ["light", "dark"] {
            let feature = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
            self.call("Emulation.setEmulatedMedia", &feature);
            for width in [390, 1024, 1600] {
                let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
                self.call("Emulation.setDeviceMetricsOverride", &size);
                let shot = self.call("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
                save(&folder.join(format!("{scheme}-{width}.png")), &shot["data"]);
            }
        }
        self.call("Emulation.setEmulatedMedia", &json!({"features": []}));
        let paper =
            self.call("Page.printToPDF", &json!({"printBackground": true, "preferCSSPageSize": true}));
        save(&folder.join("page.pdf"), &paper["data"]);
    }

    /// Sends a command; its result.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.message();
            if answer["id"] == self.last {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].clone();
            }
        }
    }

    /// The next message. What it tells of requests and complaints is noted.
    fn message(&mut self) -> Value {
        let mut bytes = Vec::new();
        assert_ne!(self.output.read_until(0, &mut bytes).unwrap(), 0, "the browser has ended");
        bytes.pop();
        let message: Value = serde_json::from_slice(&bytes).unwrap();
        let parameters = &message["params"];
        match message["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                self.requests.push(parameters["request"]["url"].as_str().unwrap().to_owned());
            }
            Some("Log.entryAdded" | "Runtime.consoleAPICalled" | "Runtime.exceptionThrown") => {
                self.complaints.push(parameters.to_string());
            }
            _ => {}
        }
        message
    }
}

/// Writes what came in Base64.
fn save(path: &Path, data: &Value) {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for group in data.as_str().unwrap().trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group.iter().fold(0_u32, |bits, c| bits << 6 | u32::from(digit(*c)));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend(bits.to_be_bytes().into_iter().skip(1).take(group.len() - 1));
    }
    fs::write(path, bytes).unwrap();
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Killed at once it would leave its own helpers behind.
        let _ = self.input.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}
