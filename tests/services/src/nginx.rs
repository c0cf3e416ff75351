//! nginx as a proxy between the product and a server: one process, with the directives of a test.

use crate::ports::free_port;
use crate::process::Process;
use crate::user;
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use tempfile::TempDir;

/// The name in `install.sh`.
pub const NAME: &str = "nginx";

/// A proxy and its directory. Both are removed when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    folder: TempDir,
    port: u16,
    // Declared before the directory, so it ends first.
    process: Process,
}

impl Nginx {
    /// Starts a proxy whose `server` block has these directives, with files in its directory that they may name. With
    /// `secure` it uses TLS, and the directives name the certificate.
    pub fn start(secure: bool, directives: &str, files: &[(&str, &str)]) -> Nginx {
        let places = crate::install(NAME);
        let program = places.get("NGINX").map(PathBuf::from).unwrap_or_else(|| panic!("no NGINX: {places:?}"));
        let folder = tempfile::Builder::new().prefix("tailwater-nginx-").tempdir().expect("a temporary folder");
        let port = free_port();
        let listen = if secure { format!("127.0.0.1:{port} ssl") } else { format!("127.0.0.1:{port}") };
        // One process, so that nothing is left when it is killed.
        let config = format!(
            "daemon off;\nmaster_process off;\nerror_log stderr info;\npid nginx.pid;\nevents {{}}\nhttp {{\n\
             log_format brief \"$status $ssl_client_verify $remote_user\";\naccess_log requests.log brief;\n\
             client_body_temp_path temp;\nproxy_temp_path temp;\nfastcgi_temp_path temp;\nuwsgi_temp_path temp;\n\
             scgi_temp_path temp;\nserver {{\nlisten {listen};\n{directives}\n}}\n}}\n"
        );
        for (name, text) in files.iter().chain(&[("nginx.conf", config.as_str())]) {
            fs::write(folder.path().join(name), text).expect("a file of the configuration");
            user::give(&folder.path().join(name));
        }
        user::give(folder.path());
        let mut command = user::command(&user::reachable(program, folder.path()));
        command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
        let mut process = Process::start(NAME, &mut command, &folder.path().join("console.log"), folder.path());
        process.wait_until(|| TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string()));
        Nginx { folder, port, process }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The requests it has handled, one per line: status, result of the client certificate check, and user.
    pub fn requests(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("requests.log")).expect("its log of requests");
        text.lines().map(str::to_owned).collect()
    }

    /// The last lines of its output.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}
