package rack

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The controller is a full management controller without sensors; the numbers are the ones of the
// simulator's own example (device id, revision, firmware, IPMI support, manufacturer, product).
const bmcCommands = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`

// One administrator with a password, no anonymous user, and only authenticated sessions.
const bmcConfig = `name "%[1]s"
set_working_mc 0x20
  startlan 1
    addr %[2]s 623
    priv_limit admin
    allowed_auths_callback md5
    allowed_auths_user md5
    allowed_auths_operator md5
    allowed_auths_admin md5
    guid %[3]s
  endlan
  sol "tcp:%[7]s" 115200
  chassis_control "%[4]s"
  user 1 false "" "" user 10 md5
  user 2 true "%[5]s" "%[6]s" admin 10 md5
`

// RestartBMC makes a machine's controller end and start again, as a firmware update does. The
// machine's power stays as it is.
func (r *Rack) RestartBMC(ctx context.Context, name string) error {
	m, err := r.Machine(name)
	if err != nil {
		return err
	}
	if err := m.bmcProcess().stop(ctx); err != nil {
		return err
	}
	return r.ensureBMC(ctx, m)
}

func (m Machine) bmcProcess() process {
	return process{
		pidFile: filepath.Join(m.dir, "bmc.pid"),
		mark:    "\x00" + filepath.Join(m.dir, "lan.conf") + "\x00",
		logFile: filepath.Join(m.dir, "bmc.log"),
		signal:  unix.SIGTERM,
	}
}

func (r *Rack) ensureBMC(ctx context.Context, m Machine) error {
	p := m.bmcProcess()
	if on, err := p.running(); err != nil || on {
		return err
	}
	if err := r.writeBMCFiles(m); err != nil {
		return err
	}
	if err := r.ensureSerial(m); err != nil {
		return fmt.Errorf("start helper of the serial port: %w", err)
	}
	cmd := exec.Command("ipmi_sim", "-n",
		"-c", filepath.Join(m.dir, "lan.conf"),
		"-f", filepath.Join(m.dir, "cmds.emu"),
		"-s", filepath.Join(m.dir, "bmc"))
	if err := p.launch(cmd, r.Start); err != nil {
		return err
	}
	if err := r.awaitBMC(ctx, m); err != nil {
		last, _ := lastLines(p.logFile, 5)
		return fmt.Errorf("%w (its log: %q)", err, last)
	}
	return nil
}

func (r *Rack) writeBMCFiles(m Machine) error {
	if err := os.MkdirAll(filepath.Join(m.dir, "bmc"), 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	password, err := bmcPassword(m.BMCPasswordFile)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	chassis := filepath.Join(m.dir, "chassis")
	if strings.ContainsAny(chassis, "\"\\ \t\n") {
		return fmt.Errorf("rack directory %q: the simulator takes no blanks or quotes in it", r.cfg.Dir)
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %s %s %s %s %s \"$@\"\n",
		shellQuote(self), helperWord, helperChassis, shellQuote(r.cfg.Dir), m.Name)
	conf := fmt.Sprintf(bmcConfig, m.Name, m.BMC, strings.ReplaceAll(m.UUID, "-", ""), chassis, m.BMCUser, password, m.solAddress())
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{{"chassis", script, 0o755}, {"lan.conf", conf, 0o600}, {"cmds.emu", bmcCommands, 0o644}} {
		if err := writeFile(filepath.Join(m.dir, f.name), []byte(f.text), f.mode); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	return nil
}

// bmcPassword returns the stored password of a controller, or makes one. IPMI 2.0 allows 20 bytes.
func bmcPassword(path string) (string, error) {
	if raw, err := os.ReadFile(path); err == nil && len(raw) > 0 {
		return string(raw), nil
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read controller's password: %w", err)
	}
	buf := make([]byte, 8)
	if _, err := rand.Read(buf); err != nil {
		return "", fmt.Errorf("make controller's password: %w", err)
	}
	password := hex.EncodeToString(buf)
	if err := writeFile(path, []byte(password), 0o600); err != nil {
		return "", fmt.Errorf("store controller's password: %w", err)
	}
	return password, nil
}

// awaitBMC sends RMCP presence pings (ASF 2.0, section 3.2.4.2) until one is answered, ten seconds
// long: from then on the controller takes sessions.
func (r *Rack) awaitBMC(ctx context.Context, m Machine) error {
	conn, err := r.Dial(ctx, "udp", net.JoinHostPort(m.BMC.String(), "623"))
	if err != nil {
		return err
	}
	defer conn.Close()
	ping := []byte{0x06, 0, 0xff, 0x06, 0, 0, 0x11, 0xbe, 0x80, 0x01, 0, 0}
	buf := make([]byte, 64)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		_, _ = conn.Write(ping) // refused until the simulator listens
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := conn.Read(buf); err == nil && n >= 12 {
			return nil
		}
		if on, err := m.bmcProcess().running(); err != nil || !on {
			return errors.Join(errors.New("the simulator ended at once"), err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the controller does not answer within 10 s")
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
