//! `kubernetes`: the DaemonSet as it is shipped, on a real node, where a pod leaks.

mod node;

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use self::node::Node;
use super::{
    Scenario, http,
    need::{self, Need},
    stage::{self, Stage},
};
use crate::process;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "kubernetes",
    about: "a DaemonSet on a real Kubernetes node reports a pod's leak under its pod, namespace and container",
    needs: &[
        Need::Root,
        Need::Kubernetes,
        Need::Program("kubectl", "kubectl"),
        Need::Program("containerd", "containerd"),
        Need::Program("runc", "runc"),
        Need::Program("etcd", "etcd-server"),
        Need::Program("conntrack", "conntrack"),
        Need::Program("busybox", "busybox-static"),
        Need::Python("kubernetes_validate"),
    ],
    run,
};

/// What users apply, by itself or as part of their own.
const FOLDERS: [&str; 4] = ["base", "overlays/old-kernel", "overlays/old-kubernetes", "overlays/example"];
/// Releases of Kubernetes that the manifests are checked against; older ones have no appArmorProfile.
const VERSIONS: [&str; 2] = ["1.30", "1.34"];
const PATIENCE: Duration = Duration::from_secs(120);

fn run(stage: &Stage) -> Result<()> {
    validate(stage)?;
    let node = Node::up(stage, &images(stage)?)?;
    for folder in FOLDERS {
        node.kubectl(&["create", "namespace", "tcp-trace"])?;
        let rendered = render(&format!("deploy/kubernetes/{folder}"))?;
        let file = stage.write("dry-run.yaml", rendered)?;
        // 1.20 does not know every field of the others; that the server takes the rest is what is asked.
        node.kubectl(&["apply", "--validate=false", "--dry-run=server", "-f", &file.to_string_lossy()])?;
        node.kubectl(&["delete", "namespace", "tcp-trace"])?;
    }
    node.kubectl(&[
        "apply",
        "-f",
        &Stage::repository("xtask/src/e2e/kubernetes/shop.yaml").to_string_lossy(),
    ])?;
    least(stage, &node)?;
    all(stage, &node)
}

/// With the least: the leak is under its names, and what cannot be had is said.
fn least(stage: &Stage, node: &Node) -> Result<()> {
    deploy(stage, node, "xtask/src/e2e/kubernetes/node")?;
    let finding = stage::until(PATIENCE, || leak(&lines(node)?))?;
    let pod = node.kubectl(&["get", "pods", "-n", "shop", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let container = container(&finding)?;
    for (key, expected) in
        [("name", "api"), ("namespace", "shop"), ("pod", pod.trim()), ("runtime", "kubernetes")]
    {
        ensure!(container[key] == expected, "{key} is {} and not {expected:?}: {finding}", container[key]);
    }
    for (key, expected) in [("host", "node1"), ("cluster", "e2e")] {
        ensure!(
            finding.to_string().contains(&format!("\"{key}\":\"{expected}\"")),
            "no {key} {expected:?} in {finding}"
        );
    }
    eprintln!("   {}", finding["message"].as_str().unwrap_or_default());
    let lines = lines(node)?;
    let degraded = lines.iter().filter(|line| line["event"] == "tcp.degradation").map(ToString::to_string);
    let said = degraded.filter(|line| line.contains("CAP_SYS_ADMIN")).count();
    ensure!(said > 0, "that other network namespaces are not looked into is not said");
    metrics(node)
}

/// With all: a restart finds what the pod had leaked before, and the image is named.
fn all(stage: &Stage, node: &Node) -> Result<()> {
    deploy(stage, node, "xtask/src/e2e/kubernetes/node-all")?;
    let finding = stage::until(PATIENCE, || leak(&lines(node)?))?;
    let container = container(&finding)?;
    ensure!(container["image"] == "localhost/empty:1", "the image is not named: {finding}");
    let lines = lines(node)?;
    let degraded = lines.iter().filter(|line| line["event"] == "tcp.degradation").map(ToString::to_string);
    ensure!(
        degraded.filter(|line| line.contains("CAP_SYS_ADMIN")).count() == 0,
        "namespaces are still closed"
    );
    eprintln!("   {}", finding["message"].as_str().unwrap_or_default());
    Ok(())
}

/// Applies a folder, and waits until its agents are ready.
fn deploy(stage: &Stage, node: &Node, folder: &str) -> Result<()> {
    let file = stage.write("applied.yaml", render(folder)?)?;
    node.kubectl(&["apply", "-f", &file.to_string_lossy()])?;
    node.kubectl(&["rollout", "status", "-n", "tcp-trace", "daemonset/tcp-trace", "--timeout=120s"])?;
    Ok(())
}

/// What Prometheus would read.
fn metrics(node: &Node) -> Result<()> {
    let address =
        node.kubectl(&["get", "pods", "-n", "tcp-trace", "-o", "jsonpath={.items[0].status.podIP}"])?;
    let address: SocketAddr = format!("{}:9981", address.trim()).parse().context("the pod's address")?;
    stage::until(PATIENCE, || {
        let metrics = http::get(address, "/metrics")?;
        let line = metrics.lines().find(|line| {
            line.starts_with("tcp_trace_close_wait") && line.contains("\"api\"") && line.contains("\"shop\"")
        });
        eprintln!("   {}", line.context("no metric names the container that leaks")?);
        Ok(())
    })
}

/// Every folder against the schemas of the API.
fn validate(stage: &Stage) -> Result<()> {
    let tool = need::python(&stage.shared).with_file_name("kubernetes-validate");
    for folder in FOLDERS {
        let file = stage.write("validate.yaml", render(&format!("deploy/kubernetes/{folder}"))?)?;
        for version in VERSIONS {
            let mut command = Command::new(&tool);
            command.args(["--quiet", "--strict", "-k", version]).arg(&file);
            stage.run("validate", &mut command, PATIENCE)?;
        }
    }
    Ok(())
}

fn render(folder: &str) -> Result<String> {
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("kustomize").arg(Stage::repository(folder));
    let output = kubectl.output().context("starting kubectl")?;
    ensure!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The agent's, built as users build it; an empty one; and the one that keeps a pod's namespaces.
fn images(stage: &Stage) -> Result<Vec<PathBuf>> {
    let agent = stage.folder.join("tcp-trace.tar");
    let mut build = Command::new(Stage::repository("deploy/container/build.sh"));
    // One that needs shared libraries is no program for an image: another one is built.
    if !process::succeeds("ldd", &[&stage.program.to_string_lossy()]) {
        build.arg("--binary").arg(&stage.program);
    }
    process::run(build.arg(&agent))?;
    let pack = Stage::repository("deploy/container/pack.sh");
    let image = |name: &str, config: &str| {
        let (folder, file) = (stage.folder.join(name), stage.folder.join(format!("{name}.tar")));
        fs::create_dir_all(folder.join("bin"))?;
        if name == "pause" {
            fs::copy("/bin/busybox", folder.join("bin/sleep"))?;
        }
        let tag = format!("localhost/{name}:1");
        process::run(Command::new(&pack).arg(folder).arg(tag).arg(&file).arg(config))?;
        anyhow::Ok(file)
    };
    Ok(vec![
        agent,
        image("pause", r#"{"Cmd":["/bin/sleep","1000000"]}"#)?,
        image("empty", r#"{"Cmd":["/none"]}"#)?,
    ])
}

/// What the agent has written to its standard output, from the node's file of it: the newest one.
fn lines(node: &Node) -> Result<Vec<Value>> {
    let pod = node.kubectl(&[
        "get",
        "pods",
        "-n",
        "tcp-trace",
        "-o",
        "jsonpath={.items[?(@.status.phase==\"Running\")].metadata.uid}",
    ])?;
    let folder = fs::read_dir("/var/log/pods")?
        .flatten()
        .find(|folder| folder.file_name().to_string_lossy().ends_with(pod.trim()));
    let folder = folder.context("the agent has written nothing")?.path().join("tcp-trace");
    let mut logs: Vec<_> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    logs.sort();
    let text = fs::read_to_string(logs.last().context("the agent has written nothing")?)?;
    // TIME STREAM F|P TEXT
    let out = text.lines().filter_map(|line| line.split_once(" stdout F ")).map(|(_, text)| text);
    Ok(out.filter_map(|text| serde_json::from_str(text).ok()).collect())
}

fn leak(lines: &[Value]) -> Result<Value> {
    let is_leak =
        |line: &&Value| line["event"] == "tcp.finding" && line.to_string().contains("\"close_wait_leak\"");
    lines.iter().rfind(is_leak).cloned().with_context(|| format!("no leak among {} documents", lines.len()))
}

/// The container of the process that a finding is about.
fn container(finding: &Value) -> Result<&Value> {
    let process = &finding["finding"]["subject"]["process"];
    ensure!(process["comm"] == "orders-api", "the process is not orders-api: {finding}");
    Ok(&process["container"])
}
