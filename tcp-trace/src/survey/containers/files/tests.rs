//! Each runtime's files, as they were seen on hosts that ran it, below a root of the test's own.

use std::{env, fs, process};

use tcp_trace_core::{
    container::identify,
    survey::{ContainerFacts, Runtime},
};

use super::*;

const ID: &str = "aaaaaaaaaaaaaaaa0123456789abcdef0123456789abcdef0123456789abcdef";
const UID: &str = "12345678-90ab-cdef-1234-567890abcdef";

/// A root of a file system; removed when dropped.
pub(in super::super) struct Root(PathBuf);

impl Root {
    pub(in super::super) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("tcp-trace-files-{}-{name}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(in super::super) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    pub(in super::super) fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(in super::super) fn remove(&self, path: &str) {
        fs::remove_dir_all(self.0.join(path)).unwrap();
    }

    fn look(&self, path: &str) -> ContainerFacts {
        let mut facts = identify(path).unwrap().facts;
        RuntimeFiles::new(self.path()).complete(path, &mut facts);
        facts
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn named(facts: &ContainerFacts) -> [Option<&str>; 4] {
    [&facts.namespace, &facts.pod, &facts.name, &facts.image].map(|text| text.as_deref())
}

#[test]
fn docker_by_its_default_and_by_its_configuration() {
    let root = Root::new("docker");
    let document = r#"{"ID":"x","Name":"/web_1","Config":{"Image":"nginx:1","Labels":null}}"#;
    root.write(&format!("srv/d/containers/{ID}/config.v2.json"), document);
    let path = format!("/docker/{ID}");
    assert_eq!(named(&root.look(&path)), [None; 4]);
    root.write("etc/docker/daemon.json", r#"{"debug":true,"data-root":"/srv/d"}"#);
    assert_eq!(named(&root.look(&path)), [None, None, Some("web_1"), Some("nginx:1")]);
    let claimed = RuntimeFiles::new(root.path()).claimed(&format!("/custom/{ID}/init")).unwrap();
    assert_eq!((claimed.0.runtime, claimed.1), (Runtime::Docker, format!("/custom/{ID}")));
    assert_eq!(RuntimeFiles::new(root.path()).claimed(&format!("/custom/{}", ID.replace('a', "b"))), None);
}

#[test]
fn a_pods_container_by_each_runtime() {
    let root = Root::new("pods");
    let path = format!("/kubepods/burstable/pod{UID}/{ID}");
    let names = [Some("shop"), Some("cart-1"), Some("api")];
    root.write(&format!("var/log/containers/cart-1_shop_api-{ID}.log"), "");
    let facts = root.look(&path);
    assert_eq!((named(&facts)[..3].to_vec(), facts.runtime), (names.to_vec(), Runtime::Kubernetes));
    root.remove("var/log");
    let crio = r#"{"annotations":{"io.kubernetes.cri-o.ImageName":"i","io.kubernetes.pod.name":"cart-1",
        "io.kubernetes.pod.namespace":"shop","io.kubernetes.container.name":"api"}}"#;
    root.write(&format!("{CRIO}/{ID}/userdata/config.json"), crio);
    let facts = root.look(&path);
    assert_eq!((named(&facts), facts.runtime), ([names[0], names[1], names[2], Some("i")], Runtime::CriO));
    let containerd = r#"{"annotations":{"io.kubernetes.cri.sandbox-name":"cart-1","io.kubernetes.cri.image-name":"i2",
        "io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.container-name":"api"}}"#;
    root.remove("run/containers");
    root.write(&format!("{}/k8s.io/{ID}/config.json", TASKS[0]), containerd);
    let facts = root.look(&path);
    assert_eq!(
        (named(&facts), facts.runtime),
        ([names[0], names[1], names[2], Some("i2")], Runtime::Containerd)
    );
    assert_eq!(facts.pod_uid.as_deref(), Some(UID));
}

#[test]
fn tasks_of_containerd_are_where_they_say() {
    let root = Root::new("tasks");
    root.write(&format!("{}/default/ctr1/config.json", TASKS[0]), r#"{"linux":{"cgroupsPath":"/x/ctr1"}}"#);
    let mut files = RuntimeFiles::new(root.path());
    let (facts, place) = files.claimed("/x/ctr1/child").unwrap();
    assert_eq!((facts.id.as_str(), facts.name.as_deref(), place.as_str()), ("ctr1", Some("ctr1"), "/x/ctr1"));
    assert_eq!(facts.runtime, Runtime::Containerd);
    for other in ["/y/ctr1", "/x", "/", "", "/x/..", "/x/ctr1/a/b"] {
        assert_eq!(files.claimed(other), None, "{other}");
    }
}

#[test]
fn podman_by_its_storage() {
    let root = Root::new("podman");
    let list = format!(
        r#"[{{"id":"0","names":null}},{{"id":"{ID}","names":["web1"],"metadata":"{{\"image-name\":\"localhost/bb:1\"}}"}}]"#
    );
    root.write("var/lib/containers/storage/vfs-containers/containers.json", &list);
    let path = format!("/libpod_parent/libpod-{ID}");
    assert_eq!(named(&root.look(&path)), [None, None, Some("web1"), Some("localhost/bb:1")]);
    let of_user = format!("/user.slice/user-4294967294.slice/libpod-{ID}.scope");
    assert_eq!(
        named(&root.look(&of_user)),
        [None; 4],
        "the host's list says nothing about a user's container"
    );
}

#[test]
fn hostile_files_are_no_documents() {
    let root = Root::new("hostile");
    let path = format!("/docker/{ID}");
    let file = format!("var/lib/docker/containers/{ID}/config.v2.json");
    for text in ["", "[]", "{\"Name\":7}", "{\"Name\":\"/a\"", &"[".repeat(100_000), "\u{feff}{}"] {
        root.write(&file, text);
        assert_eq!(root.look(&path).name, None);
    }
    root.write(&file, &format!("{{\"Name\":\"/{}\"}}", r"\u001b\u202e".repeat(1000)));
    let name = root.look(&path).name.unwrap();
    assert_eq!(name, "\u{1b}\u{202e}".repeat(LONGEST_NAME / 2));
    root.write(&file, &format!("{{\"Name\":\"/a\"}}{}", " ".repeat(usize::try_from(ONE).unwrap())));
    assert_eq!(root.look(&path).name, None, "too long");
    let whole = root.path().join(&file);
    fs::remove_file(&whole).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &whole, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(root.look(&path).name, None, "a FIFO is not waited for");
}
