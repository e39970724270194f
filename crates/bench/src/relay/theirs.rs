//! Chains of Debian's programs, each relay a process of its own, with settings that are at least as good as the shipped ones:
//! one thread as a peer has, 64 KiB buffers, kept connections.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::Result;

use crate::{process::Running, programs};

/// What one would use instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// Copies bytes; a process for each connection.
    Socat,
    /// An HTTP proxy.
    Haproxy,
    /// An HTTP proxy.
    Nginx,
}

impl Program {
    pub(super) const ALL: [Self; 3] = [Self::Socat, Self::Haproxy, Self::Nginx];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Socat => "socat",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Starts one relay.
    pub(super) fn start(self, dir: &Path, at: SocketAddr, next: SocketAddr) -> Result<Running> {
        let mut command = Command::new(programs::debian(self.name())?);
        let file = dir.join(format!("{}-{}.conf", self.name(), at.ip()));
        match self {
            Self::Socat => {
                let listen =
                    format!("TCP4-LISTEN:{},bind={},fork,reuseaddr,nodelay,backlog=64", at.port(), at.ip());
                command.args(["-b", "65536", &listen, &format!("TCP4:{next},nodelay")]);
            }
            Self::Haproxy => {
                fs::write(&file, haproxy(at, next))?;
                command.arg("-db").arg("-q").arg("-f").arg(&file);
            }
            Self::Nginx => {
                fs::write(&file, nginx(dir, at, next))?;
                command.arg("-c").arg(&file).arg("-p").arg(dir).arg("-e").arg("stderr");
            }
        }
        Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
    }
}

fn haproxy(at: SocketAddr, next: SocketAddr) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 256\n  tune.bufsize 65536\n\
         defaults\n  mode http\n  http-reuse always\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         listen relay\n  bind {at}\n  server next {next}\n"
    )
}

fn nginx(dir: &Path, at: SocketAddr, next: SocketAddr) -> String {
    let dir = dir.display();
    // A body goes to no temporary file; as root its worker stays root, since the directory is root's.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "{user}daemon off;\nworker_processes 1;\npid {dir}/nginx-{}.pid;\nevents {{ worker_connections 256; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  fastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n  keepalive_requests 100000000;\n  tcp_nodelay on;\n\
         upstream next {{ server {next}; keepalive 16; keepalive_requests 100000000; }}\n\
         server {{\n    listen {at};\n    location / {{\n      proxy_pass http://next;\n      proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n      proxy_max_temp_file_size 0;\n      proxy_buffer_size 64k;\n      proxy_buffers 8 64k;\n\
         proxy_busy_buffers_size 128k;\n    }}\n  }}\n}}\n",
        at.ip()
    )
}
