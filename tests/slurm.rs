//! The job of docs/many-machines.md under Slurm, where it is installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::convert::npy;
use crate::support::{Scratch, at, npk_any, npk_command};

/// A cluster of this machine alone; its daemons end with it.
struct Slurm {
    scratch: Scratch,
    daemons: Vec<Child>,
}

fn installed(program: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Slurm {
    fn start() -> Slurm {
        let scratch = Scratch::new();
        let file = |name: &str| scratch.join(name).display().to_string();
        for folder in ["state", "spool"] {
            std::fs::create_dir(scratch.join(folder)).unwrap();
        }
        std::fs::write(scratch.join("munge.key"), [0x5A; 128]).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(scratch.join("munge.key"), private).unwrap();
        let host = Command::new("hostname").output().unwrap().stdout;
        let host = String::from_utf8(host).unwrap();
        let cpus = std::thread::available_parallelism().unwrap();
        let conf = format!(
            "ClusterName=npk\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n\
             AuthType=auth/munge\nAuthInfo=socket={socket}\nCryptoType=crypto/munge\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\n\
             StateSaveLocation={state}\nSlurmdSpoolDir={spool}\n\
             SlurmctldPidFile={state}/ctld.pid\nSlurmdPidFile={state}/d.pid\n\
             SlurmctldLogFile={state}/ctld.log\nSlurmdLogFile={state}/d.log\n\
             SlurmctldPort={ctld}\nSlurmdPort={d}\nReturnToService=2\nMailProg=/bin/true\n\
             KillWait=2\nMinJobAge=10\n\
             NodeName=here NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN\n\
             PartitionName=all Nodes=here Default=YES MaxTime=INFINITE State=UP\n",
            host = host.trim(),
            socket = file("munge.socket"),
            state = file("state"),
            spool = file("spool"),
            ctld = free_port(),
            d = free_port(),
        );
        std::fs::write(scratch.join("slurm.conf"), conf).unwrap();
        let mut slurm = Slurm { scratch, daemons: Vec::new() };
        let file = |name: &str| at(&slurm.scratch, name);
        let options = ["key-file=munge.key", "socket=munge.socket", "pid-file=munge.pid"];
        let more = ["log-file=munge.log", "seed-file=munge.seed"];
        let munged: Vec<String> = options
            .iter()
            .chain(&more)
            .filter_map(|o| o.split_once('='))
            .map(|(name, path)| format!("--{name}={}", file(path)))
            .chain(["--foreground".to_string(), "--force".to_string()])
            .collect();
        let (socket, conf) = (slurm.scratch.join("munge.socket"), file("slurm.conf"));
        slurm.daemon("munged", &munged);
        while !socket.exists() {
            assert!(slurm.daemons[0].try_wait().unwrap().is_none(), "munged did not start");
            std::thread::yield_now();
        }
        slurm.daemon("slurmctld", &["-D".into(), "-f".into(), conf.clone()]);
        slurm.daemon("slurmd", &["-D".into(), "-N".into(), "here".into(), "-f".into(), conf]);
        slurm
    }

    fn daemon(&mut self, program: &str, args: &[String]) {
        let mut command = Command::new(installed(program).unwrap());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemons.push(command.spawn().unwrap());
    }

    fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(installed(program).unwrap());
        let npk = Path::new(env!("CARGO_BIN_EXE_npk")).parent().unwrap();
        let path = std::env::join_paths([npk, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        command.current_dir(folder).env("PATH", path);
        command.env("SLURM_CONF", self.scratch.join("slurm.conf"));
        command
    }

    /// Submits the script; its end is that of the job.
    fn submit(&self, folder: &Path, more: &[&str]) -> Child {
        let mut sbatch = self.command("sbatch", folder);
        sbatch.args(["--wait", "--parsable"]).args(more).arg("share.sh");
        sbatch.stdout(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn the_job_of_the_page_runs_and_goes_on_after_scancel() {
    let needed = ["munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue"];
    let is_root = rustix::process::getuid().is_root();
    if !is_root || needed.iter().any(|program| installed(program).is_none()) {
        println!("note: Slurm is not installed, or this is not root: its job is not run");
        return;
    }
    let page = std::fs::read_to_string("docs/many-machines.md").unwrap();
    let start = page.find("#!/bin/bash\n#SBATCH").unwrap();
    let script = page[start..].split("```").next().unwrap();
    // The machine that runs this may have one core.
    let script = script.replace("--cpus-per-task=2", "--cpus-per-task=1");
    let s = Scratch::new();
    std::fs::write(s.join("share.sh"), script).unwrap();
    std::fs::create_dir(s.join("in")).unwrap();
    for i in 0..400u16 {
        npy(&s.join(&format!("in/x{i}.npy")), "<i2", &[1], &i.to_le_bytes());
    }
    let slurm = Slurm::start();
    let mut job = slurm.submit(s.path(), &[]);
    // When the first share is at work, some are stopped, one of them hard.
    while !s.join("report").exists() && job.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let queued = slurm.command("squeue", s.path()).args(["-h", "-o", "%A"]).output().unwrap();
    let queued = String::from_utf8(queued.stdout).unwrap();
    let id = queued.lines().next().unwrap().trim().to_string();
    let stop = |args: &[String]| slurm.command("scancel", s.path()).args(args).status().unwrap();
    assert!(stop(&["-s".into(), "KILL".into(), format!("{id}_0"), format!("{id}_1")]).success());
    assert!(stop(&[format!("{id}_[3,7]")]).success());
    job.wait().unwrap();
    let report = || -> Value {
        let told = npk_any(&["report", &at(&s, "report"), "--json"]).stdout;
        serde_json::from_slice(&told).unwrap()
    };
    let told = report();
    assert_eq!(told["complete"], false, "{told}");
    let states = told["shares"].as_array().unwrap().iter();
    let missing = states.filter(|share| share["state"] != "done");
    let missing: Vec<String> = missing.map(|share| share["share"].to_string()).collect();
    assert!(!missing.is_empty() && missing.len() < 16, "{told}");
    let retry = format!("--array={}", missing.join(","));
    assert!(slurm.submit(s.path(), &[&retry]).wait().unwrap().success());
    let told = report();
    assert!(told["complete"] == true && told["done"] == 400 && told["of"] == 16, "{told}");
    // The sources are named as the job had them: below its folder.
    let args = ["verify", "--certificate", "report", "--sample", "20"];
    let verified = npk_command().args(args).current_dir(s.path()).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
}
