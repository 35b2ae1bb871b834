package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

// ErrNoServer says that this machine has no MariaDB server to start.
var ErrNoServer = errors.New("mariadbd is not installed: apt-get install -y --no-install-recommends mariadb-server-core")

// Limits of the private server's life.
const (
	startLimit = 30 * time.Second // crash recovery of a small database takes well under a second
	stopLimit  = 20 * time.Second // then it is killed; InnoDB recovers at the next start
	maxSocket  = 100              // bytes of a socket path; the kernel takes 107
)

// Private is a MariaDB server of our own: a child process on a unix socket, without network and without passwords. Should it die, it
// is started again. It ends when Close is called, and when our process dies.
type Private struct {
	binary, dir, data, socket, socketDir, user string
	pool                                       int
	log                                        *slog.Logger
	lock                                       *os.File
	stop                                       context.CancelFunc
	done                                       chan struct{} // closed when the supervisor has ended

	mu  sync.Mutex
	pid int // of the running child, 0 if there is none
}

// StartPrivate starts a private server with its files under dir, which is made at the first start (about 0.3 s). A server that an
// earlier, killed process of ours left behind on these files is stopped first. Only one process may use dir.
func StartPrivate(ctx context.Context, dir string, poolMiB int, log *slog.Logger) (*Private, error) {
	binary, version, err := findServer(ctx)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("find folder of the database: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of the database: %w", err)
	}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("look up the user that we run as: %w", err)
	}
	if poolMiB == 0 {
		poolMiB = 128
	}
	p := &Private{binary: binary, dir: dir, data: filepath.Join(dir, "mariadb-"+version), user: me.Username, pool: poolMiB, log: log, done: make(chan struct{})}
	if err := p.prepare(ctx); err != nil {
		return nil, errors.Join(err, p.release())
	}
	running, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	first := make(chan error, 1)
	go p.supervise(running, first)
	select {
	case err = <-first:
	case <-ctx.Done():
		err = fmt.Errorf("start the database: %w", ctx.Err())
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// prepare takes the lock, stops an orphan, and makes the files.
func (p *Private) prepare(ctx context.Context) error {
	lock, err := os.OpenFile(p.data+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open lock of the database: %w", err)
	}
	p.lock = lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: another process of ours uses this database: %w", p.data, err)
	}
	if err := p.stopOrphan(ctx); err != nil {
		return err
	}
	if p.socket = filepath.Join(p.dir, "db.sock"); len(p.socket) > maxSocket {
		if p.socketDir, err = os.MkdirTemp("", "ce-db-"); err != nil {
			return fmt.Errorf("make folder of the database's socket: %w", err)
		}
		p.socket = filepath.Join(p.socketDir, "db.sock")
	}
	return p.bootstrap(ctx)
}

// Socket is the path of the server's unix socket. The user that we run as may connect to it without a password.
func (p *Private) Socket() string { return p.socket }

// DSN is how any client of this machine, run by our user, reaches the read models. It holds no password: the socket knows who asks.
func (p *Private) DSN() string {
	cfg := p.config()
	cfg.DBName = DefaultDatabase
	return cfg.FormatDSN()
}

// PID is the process id of the server, 0 while there is none.
func (p *Private) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Open opens a database of the server with all our tables in it; it is made if it is not there.
func (p *Private) Open(ctx context.Context, name string) (*sql.DB, error) {
	cfg := p.config()
	cfg.DBName = name
	db, err := openDatabase(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := Migrate(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (p *Private) config() *driver.Config {
	cfg := driver.NewConfig()
	cfg.Net, cfg.Addr, cfg.User = "unix", p.socket, p.user
	return cfg
}

// Close stops the server and waits until it has ended.
func (p *Private) Close() error {
	p.stop()
	<-p.done
	return p.release()
}

func (p *Private) release() error {
	var err error
	if p.socketDir != "" {
		err = os.RemoveAll(p.socketDir)
	}
	if p.lock != nil {
		err = errors.Join(err, p.lock.Close())
	}
	return err
}

// supervise keeps one child running until ctx ends. The first start's result goes to first.
func (p *Private) supervise(ctx context.Context, first chan<- error) {
	defer close(p.done)
	pause := 50 * time.Millisecond
	for {
		began := time.Now()
		err := p.runOnce(ctx, func() {
			if first != nil {
				first <- nil
				first = nil
			}
		})
		if ctx.Err() != nil {
			return
		}
		if first != nil {
			first <- err
			return
		}
		if time.Since(began) > time.Minute {
			pause = 50 * time.Millisecond
		}
		p.log.Error("database server ended, it is started again", "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// runOnce starts the child, calls ready when it answers, and returns when the child has ended; soon, once ctx has.
func (p *Private) runOnce(ctx context.Context, ready func()) error {
	cmd := exec.Command(p.binary, p.args()...)
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// Pdeathsig fires when the thread dies that made the child, so this one is kept, and goes with its goroutine afterwards.
		runtime.LockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		ended <- cmd.Wait()
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.binary, err)
	}
	p.setPID(cmd.Process.Pid)
	defer p.setPID(0)
	if err := p.awaitAnswer(ctx, ended); err != nil {
		return errors.Join(err, p.endChild(cmd, ended))
	}
	ready()
	select {
	case err := <-ended:
		return fmt.Errorf("database server died: %v%s", err, p.lastWords())
	case <-ctx.Done():
		return p.endChild(cmd, ended)
	}
}

func (p *Private) setPID(pid int) {
	p.mu.Lock()
	p.pid = pid
	p.mu.Unlock()
}

// awaitAnswer returns when the server answers. If the child ends first, its end stays in ended.
func (p *Private) awaitAnswer(ctx context.Context, ended chan error) error {
	deadline := time.Now().Add(startLimit)
	return use(withoutDatabase(prepare(p.config())), func(db *sql.DB) error {
		for {
			if err := db.PingContext(ctx); err == nil {
				return nil
			} else if time.Now().After(deadline) || ctx.Err() != nil {
				return fmt.Errorf("reach the database server: %w%s", err, p.lastWords())
			}
			select {
			case err := <-ended:
				ended <- err
				return fmt.Errorf("database server did not start: %v%s", err, p.lastWords())
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
}

// endChild asks the child to end, and kills it if it does not.
func (p *Private) endChild(cmd *exec.Cmd, ended <-chan error) error {
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-ended:
		return nil
	case <-time.After(stopLimit):
	}
	_ = cmd.Process.Kill()
	<-ended
	return fmt.Errorf("stop database server: it did not end within %s and was killed", stopLimit)
}

func (p *Private) args() []string {
	args := []string{
		"--no-defaults", "--skip-networking", "--socket=" + p.socket, "--datadir=" + p.data, "--tmpdir=" + p.tmpDir(),
		"--innodb-buffer-pool-size=" + strconv.Itoa(p.pool) + "M", "--innodb-log-file-size=64M", "--innodb-log-buffer-size=8M",
		"--innodb-flush-log-at-trx-commit=2", // the log is elsewhere: what a power loss takes is applied again
		"--key-buffer-size=1M", "--aria-pagecache-buffer-size=1M", "--performance-schema=OFF", "--table-open-cache=200",
		"--max-connections=50", "--skip-log-bin", "--character-set-server=utf8mb4", "--collation-server=utf8mb4_bin",
		"--log-error=" + filepath.Join(p.data, "err.log"), "--pid-file=" + p.pidFile(),
	}
	return append(args, asRoot()...)
}

func (p *Private) pidFile() string { return filepath.Join(p.data, "db.pid") }

// asRoot: mariadbd refuses to run as root unless told so.
func asRoot() []string {
	if os.Geteuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

// lastWords gives the last error lines of the server's own log.
func (p *Private) lastWords() string {
	b, err := os.ReadFile(filepath.Join(p.data, "err.log"))
	if err != nil {
		return ""
	}
	var lines []string
	for l := range strings.SplitSeq(string(b), "\n") {
		if strings.Contains(l, "[ERROR]") {
			lines = append(lines, l)
		}
	}
	if n := len(lines); n > 3 {
		lines = lines[n-3:]
	}
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines, "; ")
}

// tmpDir is our own, because a server that starts removes what looks like forgotten temporary tables, also another server's.
func (p *Private) tmpDir() string { return filepath.Join(p.dir, "tmp") }
