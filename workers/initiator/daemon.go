package initiator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/events"
)

const (
	pidFile     = "run/iscsid.pid" // iscsid's own default
	daemonTime  = 20 * time.Second // that iscsid may take to start
	watchPeriod = 4 * time.Second  // between two looks whether iscsid runs, and whether there are SRP sessions to be watched
)

// configuration of iscsid and of every node record (iscsid.conf of open-iscsi 2.1.8 explains the names; times in seconds). A login gives up
// soon, because the caller tries again; a session that was up is taken up again for ever (reopen_max). Units are looked for by us and not by
// iscsid, which does it in the background.
const configuration = `node.startup = manual
node.leading_login = No
node.session.scan = manual
node.session.nr_sessions = 1
node.session.initial_login_retry_max = 1
node.session.reopen_max = 0
node.session.timeo.replacement_timeout = %d
node.conn[0].timeo.login_timeout = 5
node.conn[0].timeo.logout_timeout = 5
node.conn[0].timeo.noop_out_interval = %d
node.conn[0].timeo.noop_out_timeout = %d
node.session.err_timeo.abort_timeout = 10
node.session.err_timeo.lu_reset_timeout = 10
node.session.err_timeo.tgt_reset_timeout = 10
node.session.err_timeo.host_reset_timeout = 10
node.session.cmds_max = 128
node.session.queue_depth = 16
node.session.iscsi.InitialR2T = No
node.session.iscsi.ImmediateData = Yes
node.session.iscsi.FastAbort = Yes
`

// Ensure makes sure that iscsid runs: with this machine's name, and outside of the caller's process group, so that it lives on when the agent
// dies. It needs the module iscsi_tcp. Login over iSCSI calls it; Run calls it again and again.
func (i *Initiator) Ensure(ctx context.Context) error {
	ensure := i.edges.ensure
	if ensure == nil {
		ensure = i.startDaemon
	}
	return i.flights.do(ctx, "iscsid", "iscsid", daemonTime, ensure)
}

// Run ends SRP sessions whose targets are silent, which the kernel may not notice for minutes. And it starts iscsid again when it has died, if
// it was started in this boot: without it a session whose connection is lost stays so. It returns when ctx ends, after what still goes on in
// the background.
func (i *Initiator) Run(ctx context.Context) error {
	defer i.Wait()
	var w watch
	defer w.resets.Wait()
	defer w.flow.close()
	var begun sync.WaitGroup
	defer begun.Wait()
	var looked time.Time
	for {
		began, pause := time.Now(), askPause
		if began.Sub(looked) >= watchPeriod {
			looked = began
			i.restart(ctx, &begun)
		}
		i.askAll(ctx, &w)
		if len(w.flow.hosts) == 0 { // there is nothing to be watched yet
			pause = watchPeriod
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause - time.Since(began)): // a question that was not answered has taken its time
		}
	}
}

// restart starts iscsid again when it has died, beside the caller: it may take its time.
func (i *Initiator) restart(ctx context.Context, begun *sync.WaitGroup) {
	if !i.died() {
		return
	}
	i.log().Warn("iscsid has died: starting it again")
	begun.Go(func() {
		if err := i.Ensure(ctx); err != nil {
			i.log().Error("iscsid not started", "err", err)
		}
	})
}

// died says whether iscsid was started in this boot and does not run.
func (i *Initiator) died() bool {
	_, err := os.Stat(i.path(pidFile))
	return err == nil && i.daemon() == 0
}

func (i *Initiator) startDaemon(ctx context.Context) error {
	if i.daemon() != 0 {
		return nil
	}
	if err := i.writeFiles(); err != nil {
		return fmt.Errorf("start iscsid: %w", err)
	}
	cmd := exec.CommandContext(ctx, i.program("iscsid")) // returns once it takes requests; the daemon is init's child then
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	log, err := os.OpenFile(i.path("run/iscsid.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // not a pipe: it would keep the caller waiting
	if err != nil {
		return fmt.Errorf("start iscsid: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("start iscsid: %w: %s", err, i.text("run/iscsid.log"))
	}
	if err := until(ctx, func() (bool, error) { return i.daemon() != 0, nil }); err != nil {
		return fmt.Errorf("start iscsid: %w: %s", err, i.text("run/iscsid.log"))
	}
	i.log().Info("iscsid started", "pid", i.daemon())
	return nil
}

// writeFiles writes what iscsid and iscsiadm read when they start. Node records hold no secrets, and are written anew at each login.
func (i *Initiator) writeFiles() error {
	for _, dir := range []string{"etc/iscsi/nodes", "etc/iscsi/send_targets", "etc/iscsi/ifaces", "run/lock/iscsi"} {
		if err := os.MkdirAll(i.path(dir), 0o700); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(i.path("etc/iscsi/initiatorname.iscsi"), []byte("InitiatorName="+events.InitiatorIQN(i.Self)+"\n"), 0o600),
		os.WriteFile(i.path("etc/iscsi/iscsid.conf"), fmt.Appendf(nil, configuration, fastIOFail, noopInterval, noopTimeout), 0o600),
	)
}

// daemon gives iscsid's process, or 0 if it does not run.
func (i *Initiator) daemon() int {
	pid, err := strconv.Atoi(i.text(pidFile))
	if err != nil || pid <= 0 {
		return 0
	}
	stat := i.text("proc", strconv.Itoa(pid), "stat") // "1234 (iscsid) S …" (proc(5))
	_, rest, ok := strings.Cut(stat, "(iscsid) ")
	if !ok || strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X") {
		return 0
	}
	return pid
}

// program finds a program where Debian has it, with or without a merged /usr.
func (i *Initiator) program(name string) string {
	if i.Bin != "" {
		return filepath.Join(i.Bin, name)
	}
	merged := i.path("usr/sbin", name)
	if _, err := os.Stat(merged); err == nil {
		return merged
	}
	return i.path("sbin", name)
}
