//! Servers that run in a virtual machine or an interpreter, listening on both families at once, asked by curl over both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use serde_json::Value;

use super::stage::{Expected, Seen, Stage, curl, find};
use crate::{
    check::{Check, Outcome},
    child::Running,
};

/// A server: what it is called, the program that runs it and Debian's package of that, its source, its port.
struct Runtime {
    comm: &'static str,
    package: &'static str,
    file: &'static str,
    source: &'static str,
    port: u16,
}

const RUNTIMES: [Runtime; 3] = [
    Runtime {
        comm: "java",
        package: "default-jre-headless",
        file: "Page.java",
        source: "import com.sun.net.httpserver.HttpServer;\n\
                 public class Page {\n\
                 public static void main(String[] arguments) throws Exception {\n\
                 var server = HttpServer.create(new java.net.InetSocketAddress(8091), 0);\n\
                 server.createContext(\"/\", exchange -> {\n\
                 exchange.getResponseHeaders().set(\"Connection\", \"close\");\n\
                 exchange.sendResponseHeaders(200, 5);\n\
                 exchange.getResponseBody().write(\"page\\n\".getBytes());\n\
                 exchange.close(); });\n\
                 server.setExecutor(java.util.concurrent.Executors.newFixedThreadPool(4));\n\
                 server.start(); } }\n",
        port: 8091,
    },
    Runtime {
        comm: "node",
        package: "nodejs",
        file: "page.js",
        source: "require('http').createServer((request, answer) => {\n\
                 answer.setHeader('Connection', 'close'); answer.end('page\\n'); }).listen(8092, '::');\n\
                 // It forgets those whose clients have closed.\n\
                 const kept = [];\n\
                 require('net').createServer({allowHalfOpen: true}, socket => { kept.push(socket); socket.resume(); })\n\
                 .listen(8093, '127.0.0.1');\n",
        port: 8092,
    },
    Runtime {
        comm: "python3",
        package: "python3",
        file: "page.py",
        source: "import asyncio, socket\n\
                 async def page(reader, writer):\n    \
                     await reader.readuntil(b'\\r\\n\\r\\n')\n    \
                     writer.write(b'HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\npage\\n')\n    \
                     await writer.drain()\n    \
                     writer.close()\n\
                 async def main():\n    \
                     sock = socket.create_server(('::', 8094), family=socket.AF_INET6, dualstack_ipv6=True)\n    \
                     await (await asyncio.start_server(page, sock=sock)).serve_forever()\n\
                 asyncio.run(main())\n",
        port: 8094,
    },
];

/// Where the one that forgets listens.
const FORGETFUL: u16 = 8093;
const FORGOTTEN: usize = 5;

pub(crate) fn run(check: &Check, outcome: &mut Outcome) -> Result<()> {
    let Some([curl_]) = find([("curl", "curl")], outcome) else { return Ok(()) };
    let mut stage = Stage::new(check, "runtimes")?;
    let calls = if check.quick { 10 } else { 200 };
    let mut played = Vec::new();
    for runtime in &RUNTIMES {
        let Some([program]) = find([(runtime.comm, runtime.package)], outcome) else { continue };
        // What is on PATH may be a script that finds the right one; then the process changes its name.
        let program = if runtime.comm == "python3" && std::path::Path::new("/usr/bin/python3").is_file() {
            "/usr/bin/python3".into()
        } else {
            program
        };
        let source = stage.write(runtime.file, runtime.source)?;
        let mut server = stage.start(&program, &[&source])?;
        stage.wait_for(runtime.port, &mut server)?;
        let v4 = curl(&stage, &curl_, IpAddr::V4(Ipv4Addr::LOCALHOST), runtime.port, calls)?;
        let v6 = curl(&stage, &curl_, IpAddr::V6(Ipv6Addr::LOCALHOST), runtime.port, calls)?;
        if runtime.comm == "node" {
            forget(&stage, &mut server)?;
        }
        played.push((runtime, server, v4, v6));
    }
    let seen = stage.end(outcome)?;
    for (runtime, server, v4, v6) in &played {
        judge(&seen, runtime, server, [v4, v6], outcome)?;
    }
    Ok(())
}

fn judge(
    seen: &Seen,
    runtime: &Runtime,
    server: &Running,
    [v4, v6]: [&Vec<u32>; 2],
    outcome: &mut Outcome,
) -> Result<()> {
    let Runtime { comm, port, .. } = runtime;
    let servers = [server.pid()];
    // Threads have names of their own; the process's is what counts.
    let name = std::fs::read_to_string(format!("/proc/{}/comm", server.pid()))?;
    let asked = (v4.len() + v6.len()) as u64;
    let rows: [(String, &str, &[u32], &str); 2] = [
        (format!("connections of {comm}"), "server", &servers, name.trim_end()),
        (format!("connections of curl to {comm}"), "client", &[v4.clone(), v6.clone()].concat(), "curl"),
    ];
    for (what, role, pids, comm) in rows {
        seen.expect(&Expected { what: &what, role, port: *port, pids, comm, count: asked }, outcome);
    }
    for (family, asked) in [("ipv4", v4), ("ipv6", v6)] {
        let number = |role| seen.at(role, *port).filter(|closed| closed["family"] == family).count();
        let both = number("server") == asked.len() && number("client") == asked.len();
        outcome.holds(
            &format!("{comm}: connections over {family} are called so at both ends, over a socket of both"),
            both,
        );
    }
    seen.endings("server", *port, &["closed", "time_wait", "orphaned"], outcome);
    if *comm == "node" {
        let leaks = seen.report["close_wait"]["processes"].as_array().map_or(&[][..], Vec::as_slice);
        let is_nodes = |leak: &Value| leak["process"]["pid"] == server.pid() && leak["count"] == FORGOTTEN;
        outcome.figure("sockets in CLOSE_WAIT of a server that never closes", FORGOTTEN);
        outcome.holds(
            &format!("they are node's, and nobody else has any: {leaks:?}"),
            leaks.len() == 1 && leaks.iter().all(is_nodes),
        );
    }
    Ok(())
}

/// Clients that close; the server does not.
fn forget(stage: &Stage<'_>, server: &mut Running) -> Result<()> {
    stage.wait_for(FORGETFUL, server)?;
    for _ in 0..FORGOTTEN {
        stage.ns.run(|| tcp_trace_testkit::sock::connect(None, (Ipv4Addr::LOCALHOST, FORGETFUL).into()))?;
    }
    Ok(())
}
