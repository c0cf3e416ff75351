//! Jobs that may hang: looks at files and directories that a server, or a program of a stranger, provides.
//!
//! Guarantees: a job consists of parts, one for each file or directory. A part that takes long is left alone with its thread, and the
//! others go on without it. Meanwhile nothing else is tried at its path. Whenever it answers, its result is used. If it makes no step
//! for [`ROUND`], its path is set aside with everything below it until it answers or goes on, and everything beside it is looked at. After
//! [`ROUNDS`] of these, that is told and counted. In a tree where late answers came, a path is set aside only then. In case something
//! else is at the path by then, it is tried again after growing pauses. The second path that hangs in a tree sets the whole tree aside. If several hang directly where a pattern begins, that
//! directory is asked whether it answers itself. At most [`LEFT_MAX`] jobs are left alone; with more, the input waits, and says so.
//!
//! Does not cancel a job: the kernel cannot.

mod steps;

use super::patterns::Patterns;
use futures_lite::future::or;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::OsString;
use std::future::Future;
use std::mem;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
pub use steps::Steps;
use tailwater_shards::counters::InputCounters;
use tailwater_shards::env::{Disk, Env, Monotonic, Pool};

/// How long others wait for a job.
#[derive(Clone, Copy)]
pub enum Limit {
    /// Until a part of it takes longer than this, or all of them twice as long.
    Part(Duration),
    /// Until it makes no step for so long.
    Step(Duration),
}

/// How long others wait for one part of a job that they can go on without.
pub const SLOW: Limit = Limit::Part(Duration::from_secs(1));

/// The same for a single call, whose late result has no use.
const ONE: Limit = Limit::Part(Duration::from_secs(5));

/// The same for a path that was slow before.
pub const BRIEF: Limit = Limit::Part(Duration::from_millis(10));

/// A part that makes no step for a round is set aside, and after this many rounds that is told.
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 5;

/// The same in total, for those who cannot go on without a result.
pub const HANGS: Limit = Limit::Step(HANGS_AFTER);
const HANGS_AFTER: Duration = Duration::from_secs(10);
const _: () = assert!(HANGS_AFTER.as_secs() == ROUND.as_secs() * ROUNDS as u64);

/// Number of jobs that are left alone, of one input on one shard.
pub const LEFT_MAX: usize = 32;

/// Pauses after which a path that hangs is tried again. Each attempt may keep a thread.
const AGAIN: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(8 * 60)];

/// Number of jobs that are left alone up to which that is done: the others are for paths that begin to hang.
const AGAIN_LEFT_MAX: usize = LEFT_MAX / 2;

/// Number of names that hang in a directory with which the directory itself is asked: all of it may be on a dead server.
const NAMES_MAX: usize = 4;

/// How long it is remembered that a path was slow.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Number of paths with which their tree is slow, if each takes this long. A directory with very many names takes less.
const SLOW_IN_TREE: usize = 2;
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// Number of paths that are remembered.
const REMEMBERED_MAX: usize = 100;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether somebody waits for the parts of a job.
enum Waiting {
    /// For all of them.
    All,
    /// For the current one, which is left alone.
    Late,
}

struct Parts<T> {
    done: Vec<T>,
    has_begun: bool,
    waiting: Waiting,
}

/// A job, as its thread sees it.
pub struct Work<T> {
    /// Where it is.
    pub steps: Steps,
    parts: Mutex<Parts<T>>,
}

impl<T> Work<T> {
    fn new() -> Work<T> {
        let parts = Parts { done: Vec::new(), has_begun: false, waiting: Waiting::All };
        Work { steps: Steps::default(), parts: Mutex::new(parts) }
    }

    /// A part is done. Returns whether the next one is wanted.
    pub fn done(&self, part: T) -> bool {
        let mut parts = lock(&self.parts);
        parts.done.push(part);
        matches!(parts.waiting, Waiting::All)
    }
}

/// What completes when the thread of a job is done.
type Job = Pin<Box<dyn Future<Output = ()>>>;

/// What becomes of a job that is left alone.
pub enum Reply<T> {
    /// It hangs. It may answer later.
    Hangs,
    /// It has answered.
    Answered(T),
}

/// A job that is left alone.
pub struct Late<T> {
    work: Arc<Work<T>>,
    job: Job,
    /// Whether others waited for it for [`SLOW_AFTER`] or more.
    took_long: bool,
}

impl<T> Late<T> {
    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.work.steps.path()
    }
}

/// A path that is left alone.
struct Aside {
    number: u64,
    path: PathBuf,
    /// What was left alone, which may be above.
    left: PathBuf,
    since: Monotonic,
    /// How often this path was tried while it hung.
    tries: usize,
    is_told: bool,
    /// Whether it took [`SLOW_AFTER`] or more.
    took_long: bool,
    /// Whether the call before did, until this one answers.
    was_slow: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It takes long.
    Slow,
    /// It hangs. When it is tried again.
    Hangs(Option<Monotonic>),
    /// It has answered. This is remembered until then.
    Answered(Monotonic),
}

impl Aside {
    /// Whether nothing is to be tried at this path. What is below a path that only takes long is not concerned.
    fn excludes(&self, path: &Path, now: Now) -> bool {
        match self.state {
            State::Slow => path == self.path,
            State::Answered(_) => false,
            State::Hangs(again) => path.starts_with(&self.path) && again.is_none_or(|again| !now.is_due(again)),
        }
    }
}

/// The time, and whether anything may be tried again at this time.
#[derive(Clone, Copy)]
struct Now {
    time: Monotonic,
    may_try: bool,
}

impl Now {
    fn is_due(self, again: Monotonic) -> bool {
        self.may_try && self.time >= again
    }
}

/// What waits for jobs that may hang, of one input on one shard. See the module.
pub struct Patience<E: Env> {
    env: E,
    input: Arc<str>,
    counters: Arc<InputCounters>,
    patterns: Arc<Patterns>,
    all: RefCell<Vec<Aside>>,
    next: Cell<u64>,
    /// Number of jobs that are left alone.
    left: Cell<usize>,
    /// Whether it was told that these are too many.
    told_of_limit: Cell<bool>,
}

impl<E: Env> Patience<E> {
    /// Nothing hangs yet.
    pub fn new(env: E, input: Arc<str>, counters: Arc<InputCounters>, patterns: Arc<Patterns>) -> Rc<Patience<E>> {
        let (all, next, left) = (RefCell::default(), Cell::new(0), Cell::new(0));
        Rc::new(Patience { env, input, counters, patterns, all, next, left, told_of_limit: Cell::new(false) })
    }

    fn now(&self) -> Now {
        Now { time: self.env.now(), may_try: self.left.get() <= AGAIN_LEFT_MAX }
    }

    /// Whether nothing is to be tried at this path now.
    pub fn is_aside(&self, path: &Path) -> bool {
        let all = self.all.borrow();
        !all.is_empty() && all.iter().any(|one| one.excludes(path, self.now()))
    }

    /// Whether a call at this path takes long.
    pub fn is_slow(&self, path: &Path) -> bool {
        self.all.borrow().iter().any(|one| one.path == path && one.state == State::Slow)
    }

    /// Whether a path answered late not long ago, or several paths in its tree did: then nobody waits for it.
    pub fn was_slow(&self, path: &Path) -> bool {
        if self.all.borrow().is_empty() {
            return false;
        }
        let is_it = |one: &Aside| one.path == path && matches!(one.state, State::Answered(_));
        let now = self.env.now();
        let takes_long = |one: &Aside| match one.state {
            State::Slow => one.took_long || one.was_slow || now.since(one.since) >= SLOW_AFTER,
            State::Hangs(_) => true,
            State::Answered(_) => one.took_long,
        };
        self.all.borrow().iter().any(is_it) || self.count_in_tree(path, takes_long) >= SLOW_IN_TREE
    }

    /// Whether so many calls in the tree of a directory take long that nothing else is tried there beside them.
    pub fn is_tree_busy(&self, path: &Path) -> bool {
        self.count_in_tree(path, |one| one.state == State::Slow) >= SLOW_IN_TREE
    }

    /// Number of such paths in the tree of a directory.
    fn count_in_tree(&self, path: &Path, is_counted: impl Fn(&Aside) -> bool) -> usize {
        if self.all.borrow().len() < SLOW_IN_TREE { 0 } else { self.count_of_tree(path, is_counted) }
    }

    fn count_of_tree(&self, path: &Path, is_counted: impl Fn(&Aside) -> bool) -> usize {
        let all = self.all.borrow();
        let Some(tree) = self.tree_of(path) else { return 0 };
        all.iter().filter(|one| is_counted(one) && one.path.starts_with(&tree)).count()
    }

    /// The names in a directory at which nothing is to be tried now.
    pub fn names_aside(&self, directory: &Path) -> HashSet<OsString> {
        let (all, now) = (self.all.borrow(), self.now());
        let here = all.iter().filter(|one| one.path.parent() == Some(directory) && one.excludes(&one.path, now));
        here.filter_map(|one| Some(one.path.file_name()?.to_owned())).collect()
    }

    /// Runs a job that says when it is done with each part. Returns the parts that are done, and the job if it took longer than
    /// `limit` allows: then [`Patience::leave`] it alone.
    pub async fn attend<T: Send + 'static>(
        &self,
        limit: Limit,
        work: impl FnOnce(&Work<T>) + Send + 'static,
    ) -> (Vec<T>, Option<Late<T>>) {
        let shared = Arc::new(Work::new());
        let theirs = shared.clone();
        let run = move || {
            lock(&theirs.parts).has_begun = true;
            work(&theirs);
        };
        let mut job: Job = Box::pin(self.env.blocking_in(Pool::Files, run));
        let (most, mut before) = match limit {
            Limit::Part(most) | Limit::Step(most) => (most, 0),
        };
        let mut has_begun = false;
        loop {
            if self.is_over_within(&mut job, most).await {
                return (mem::take(&mut lock(&shared.parts).done), None);
            }
            let mut parts = lock(&shared.parts);
            let now = match limit {
                Limit::Part(_) => parts.done.len() as u64,
                Limit::Step(_) => shared.steps.count(),
            };
            let had_begun = mem::replace(&mut has_begun, parts.has_begun) && matches!(limit, Limit::Part(_));
            let is_slow = parts.has_begun && (mem::replace(&mut before, now) == now || had_begun);
            if !is_slow {
                continue;
            }
            if self.left.get() < LEFT_MAX {
                parts.waiting = Waiting::Late;
                let done = mem::take(&mut parts.done);
                drop(parts);
                return (done, Some(Late { work: shared, job, took_long: most >= SLOW_AFTER }));
            }
            drop(parts);
            self.tell_of_limit(&shared.steps.path());
        }
    }

    async fn is_over_within(&self, job: &mut Job, most: Duration) -> bool {
        let over = async {
            job.as_mut().await;
            true
        };
        let timeout = async {
            self.env.sleep(most).await;
            false
        };
        or(over, timeout).await
    }

    /// Runs one piece of work at `path`; nothing if it hangs, or if the path is set aside.
    pub async fn once<R: Send + 'static>(
        self: &Rc<Self>,
        path: &Path,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Option<R> {
        if self.is_aside(path) {
            return None;
        }
        let own = path.to_path_buf();
        let one = move |job: &Work<R>| {
            job.steps.at_path(&own);
            job.done(work());
        };
        let (mut done, late) = self.attend(ONE, one).await;
        late.into_iter().for_each(|late| self.leave_unused(path.to_path_buf(), late));
        done.pop()
    }

    /// Leaves a job alone whose late result has no use.
    pub fn leave_unused<T: Send + 'static>(self: &Rc<Self>, path: PathBuf, late: Late<T>) {
        let env = self.env.clone();
        // It may hold a file, and closing that may hang as well.
        self.leave(path, late, move |reply| env.discard(reply));
    }

    /// Leaves a job alone with its part at `path`. `take` gets the result whenever it comes, and before that hears if the job hangs.
    pub fn leave<T: Send + 'static>(
        self: &Rc<Self>,
        path: PathBuf,
        late: Late<T>,
        take: impl FnMut(Reply<T>) + 'static,
    ) {
        let number = self.next.get();
        self.next.set(number + 1);
        self.left.set(self.left.get() + 1);
        let since = self.env.now();
        let mut all = self.all.borrow_mut();
        let is_remembered = |one: &Aside| one.path == path && matches!(one.state, State::Answered(_));
        let before: Vec<Aside> = all.extract_if(.., |one| is_remembered(one)).collect();
        let was_slow = before.iter().any(|one| one.took_long);
        all.push(Aside {
            number,
            left: path.clone(),
            path,
            since,
            tries: 0,
            is_told: false,
            took_long: late.took_long,
            was_slow,
            state: State::Slow,
        });
        drop(all);
        let patience = self.clone();
        self.env.spawn("slow files", async move { patience.watch_over(number, late, take).await });
    }

    async fn watch_over<T: Send + 'static>(
        self: &Rc<Self>,
        number: u64,
        late: Late<T>,
        mut take: impl FnMut(Reply<T>),
    ) {
        let Late { work, mut job, .. } = late;
        let (mut silent, mut hangs, mut steps) = (0, false, work.steps.count());
        loop {
            let begun = self.env.now();
            if self.is_over_within(&mut job, ROUND).await {
                break;
            }
            // If the whole process stood still, so did the thread.
            if self.env.now().since(begun) > ROUND * 3 / 2 {
                continue;
            }
            silent = if mem::replace(&mut steps, work.steps.count()) == steps { silent + 1 } else { 0 };
            if silent == 0 {
                self.goes_on(number);
            }
            let is_slow = silent > 0 && silent < ROUNDS && self.has_slow_answers(&work.steps.path());
            if silent > 0 && !is_slow && lock(&work.parts).done.is_empty() {
                if silent == 1 || !hangs {
                    self.set_aside(number, work.steps.path());
                }
                if !mem::replace(&mut hangs, true) {
                    take(Reply::Hangs);
                }
            }
            if silent == ROUNDS {
                self.tell(number);
            }
        }
        self.left.set(self.left.get() - 1);
        self.told_of_limit.set(false);
        self.has_answered(number);
        let result = lock(&work.parts).done.pop();
        result.into_iter().for_each(|result| take(Reply::Answered(result)));
    }

    /// Whether calls in the tree of a path take long and are answered: then this one need not hang.
    fn has_slow_answers(&self, path: &Path) -> bool {
        let was_answered = |one: &Aside| one.was_slow || one.took_long && matches!(one.state, State::Answered(_));
        self.count_of_tree(path, was_answered) > 0
    }

    /// A job that hung makes steps again: it only takes long.
    fn goes_on(&self, number: u64) {
        let mut all = self.all.borrow_mut();
        let one = all.iter_mut().find(|one| one.number == number && matches!(one.state, State::Hangs(_)));
        if let Some(one) = one {
            (one.path, one.state) = (one.left.clone(), State::Slow);
        }
    }

    fn set_aside(self: &Rc<Self>, number: u64, path: PathBuf) {
        let now = self.env.now();
        let mut all = self.all.borrow_mut();
        let others: HashSet<PathBuf> = all
            .iter()
            .filter(|one| one.path != path && matches!(one.state, State::Hangs(_)))
            .map(|one| one.path.clone())
            .collect();
        let beside = others.iter().filter(|other| other.parent() == path.parent()).count();
        let above = path.parent().filter(|_| beside + 1 >= NAMES_MAX).map(Path::to_path_buf);
        let tree = path.parent().and_then(|directory| self.tree_of(directory));
        let tree = tree.filter(|tree| others.iter().any(|other| other.starts_with(tree)));
        let asked = above.filter(|above| tree.is_none() && self.is_base(above));
        let path = tree.unwrap_or(path);
        // What hung there before is not tried again on its own.
        let mut tries = 0;
        for one in all.iter_mut().filter(|one| one.path == path && matches!(one.state, State::Hangs(_))) {
            tries = tries.max(one.tries + 1);
            one.state = State::Hangs(None);
        }
        let again = AGAIN.get(tries).map(|pause| now.after(*pause));
        if let Some(one) = all.iter_mut().find(|one| one.number == number) {
            (one.path, one.tries, one.state) = (path, tries, State::Hangs(again));
        }
        drop(all);
        asked.into_iter().for_each(|base| self.ask(base));
    }

    /// Finds out whether a directory answers of which many names hang. If it does not, it is set aside, and they cost nothing more.
    fn ask(self: &Rc<Self>, base: PathBuf) {
        let (patience, disk) = (self.clone(), self.env.disk().clone());
        self.env.spawn("slow files", async move {
            let path = base.clone();
            patience.once(&base, move || disk.stat(&path).map(drop)).await;
        });
    }

    /// Tells that the input waits for a path, as long as no job returns.
    fn tell_of_limit(&self, path: &Path) {
        if self.told_of_limit.replace(true) {
            return;
        }
        self.counters.errors.add(1);
        tracing::warn!(
            component_id = %self.input, component_kind = "input",
            "{}: no answer, as from {LEFT_MAX} other calls: the input waits until one of them returns; mount what is dead anew, start its \
             server, or `exclude` it",
            path.display()
        );
    }

    fn tell(&self, number: u64) {
        let now = self.now();
        let mut all = self.all.borrow_mut();
        let Some(at) = all.iter().position(|one| one.number == number) else { return };
        let path = all[at].path.clone();
        let covers = |one: &Aside| one.is_told && one.excludes(&path, now);
        let is_known = all.iter().any(covers) || all[at].tries > 0;
        all[at].is_told = true;
        drop(all);
        self.count();
        if is_known {
            return;
        }
        self.counters.errors.add(1);
        tracing::warn!(
            component_id = %self.input, component_kind = "input",
            "{}: no answer for {}: it is set aside with everything below it, and all else is read as before; see whether its file \
             system is mounted and its server runs (NFS, FUSE), or `exclude` it; it is looked at again when it answers",
            path.display(), seconds(HANGS_AFTER)
        );
    }

    fn has_answered(&self, number: u64) {
        let now = self.env.now();
        let mut all = self.all.borrow_mut();
        let Some(at) = all.iter().position(|one| one.number == number) else { return };
        let (took, is_told, path) = (now.since(all[at].since), all[at].is_told, all[at].path.clone());
        all[at].state = State::Answered(now.after(REMEMBERED));
        all[at].took_long |= took >= SLOW_AFTER;
        all[at].was_slow = false;
        // What hung there before may never answer, for example on a file system that was replaced.
        let is_earlier = |one: &Aside| one.path == path && one.number < number && matches!(one.state, State::Hangs(_));
        all.iter_mut().filter(|one| is_earlier(one)).for_each(|one| one.state = State::Hangs(Some(now)));
        drop(all);
        if is_told {
            tracing::info!(component_id = %self.input, "{}: it answers after {}", path.display(), seconds(took));
        }
        self.count();
    }

    fn is_base(&self, directory: &Path) -> bool {
        self.patterns.bases.iter().any(|base| base.1 == directory)
    }

    /// The tree of a directory, which is set aside as a whole when it hangs in several places. What is above all patterns is in none:
    /// they may lead to several file systems there.
    pub fn tree_of(&self, directory: &Path) -> Option<PathBuf> {
        if !self.patterns.bases.iter().any(|base| directory.starts_with(&base.1)) {
            return None;
        }
        let tree = self.patterns.tree_of_directory(directory);
        (tree != self.patterns.base_of_directory(directory)).then_some(tree)
    }

    /// Forgets what answered long ago, and shows what hangs. Called once per tick.
    pub fn count(&self) {
        let now = self.now();
        let mut all = self.all.borrow_mut();
        let mut too_many = all.len().saturating_sub(REMEMBERED_MAX);
        all.retain(|one| match one.state {
            State::Answered(until) => {
                let is_kept = now.time < until && too_many == 0;
                too_many = too_many.saturating_sub(1);
                is_kept
            }
            _ => true,
        });
        let hangs = |one: &&Aside| one.is_told && one.excludes(&one.path, now);
        let paths: HashSet<&Path> = all.iter().filter(hangs).map(|one| one.path.as_path()).collect();
        self.counters.files_hanging.set(paths.len() as u64);
    }
}

/// Does the work of a job at once. For tests of such work.
#[cfg(test)]
pub fn work_through<T>(job: impl FnOnce(&Work<T>)) -> Vec<T> {
    let work = Work::new();
    job(&work);
    work.parts.into_inner().expect("no panic").done
}

fn seconds(duration: Duration) -> String {
    tailwater_shards::counted::counted(duration.as_secs(), "second")
}
