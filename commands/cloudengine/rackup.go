package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/e2e/rack"
	"cloudengine/events"
)

// demo is what "rack up" makes.
const (
	demoAccount  = "demo"
	demoTemplate = "guest"
	demoVM       = "web1"
)

// raising is a rack on its way up.
type raising struct {
	*app
	flags rackFlags
	rack  *rack.Rack
	c     *client.Client
	began time.Time
}

// rackUp brings everything up, one step after the other. What is there already is used.
func (a *app) rackUp(ctx context.Context, f rackFlags) error {
	if err := rack.Check(); err != nil {
		return err
	}
	if err := f.need(); err != nil {
		return err
	}
	u := &raising{app: a, flags: f, began: time.Now()}
	cfg, bus, web, err := f.config(func(line string) { u.say("%s", line) })
	if err != nil {
		return err
	}
	if u.rack, err = rack.New(cfg); err != nil {
		return err
	}
	err = u.up(ctx, bus, web)
	if f.detach && err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = nil // Ctrl-C is how it ends
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	if f.detach { // it failed; leave it for a look, as it is
		a.talk("it is left as it is: cloudengine rack status, rack serial NAME, %s; then rack down", filepath.Join(f.dir, "serve.log"))
		return err
	}
	a.talk("stopping everything; the log stays in %s", f.data)
	return errors.Join(err, stopServe(stopping, u.rack.Config().Dir), u.rack.Down(stopping))
}

func (u *raising) up(ctx context.Context, bus, web string) error {
	if err := u.rack.Up(ctx); err != nil {
		return err
	}
	u.say("start the control plane (data in %s)", u.flags.data)
	logFile, ended, err := startServe(u.rack, u.flags, bus, web)
	if err != nil {
		return err
	}
	died := func() error {
		return fmt.Errorf("the control plane has ended; the end of %s:\n%s", logFile, lastLines(logFile, 15))
	}
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ended:
			cancel()
		case <-watched.Done():
		}
	}()
	err = u.steps(watched)
	if err == nil && !u.flags.detach {
		u.say("Ctrl-C stops everything.")
		<-watched.Done()
	}
	cancel()
	<-stopped
	select {
	case <-ended:
		if ctx.Err() == nil {
			return died()
		}
	default:
	}
	return err
}

// steps are what follows once the control plane is started.
func (u *raising) steps(ctx context.Context) error {
	if err := u.connectWhenReady(ctx); err != nil {
		return err
	}
	defer u.c.Close()
	for _, step := range []func(context.Context) error{u.addMachines, u.powerOn, u.importGuest, u.runVM, u.present} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// say tells of progress, with the time since the beginning.
func (u *raising) say(format string, args ...any) {
	u.talk("%6.1fs  %s", time.Since(u.began).Seconds(), fmt.Sprintf(format, args...))
}

func (u *raising) connectWhenReady(ctx context.Context) error {
	u.app.keyFile = filepath.Join(u.flags.data, "admin.nk")
	u.app.server = "nats://" + u.flags.listen
	u.app.user, u.app.account, u.app.output = "", "", "table"
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var last error
	for {
		if u.c, last = u.connect(ctx); last == nil {
			if _, last = u.all(ctx, u.c, events.KindMachine, events.ReadRequest{}); last == nil {
				u.say("the control plane answers at %s", u.server)
				return nil
			}
			u.c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the control plane: %w", last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// do sends an intent and says what it is.
func (u *raising) do(ctx context.Context, what string, kind events.Kind, verb string, args any) (events.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	a, err := u.c.Do(ctx, kind, verb, args, client.WithReason("rack up"))
	if err == nil {
		err = client.Check(a)
	}
	if err != nil {
		return a, fmt.Errorf("%s: %w", what, err)
	}
	u.say("%s: %s (decision %d)", what, a.Outcome.Status, a.Number)
	u.settle(ctx, u.c, a.Number)
	return a, nil
}

// existing finds an object by name; nil: there is none.
func (u *raising) existing(ctx context.Context, kind events.Kind, name string) (row, error) {
	r, err := u.get(ctx, u.c, kind, name, events.ReadRequest{})
	if isNotFound(err) {
		return nil, nil
	}
	return r, err
}

func (u *raising) addMachines(ctx context.Context) error {
	for _, m := range u.rack.Machines() {
		password, err := os.ReadFile(m.BMCPasswordFile)
		if err != nil {
			return fmt.Errorf("read password of %s's controller: %w", m.Name, err)
		}
		secret := m.Name + "-bmc"
		answer, err := u.c.SetSecret(ctx, secret, bytes.TrimSpace(password), client.WithReason("rack up"))
		if err == nil {
			err = client.Check(answer)
		}
		if err != nil {
			return fmt.Errorf("set secret %s: %w", secret, err)
		}
		have, err := u.existing(ctx, events.KindMachine, m.Name)
		if err != nil {
			return err
		}
		if have != nil {
			if macs := have.text("macs"); macs != m.MAC {
				return fmt.Errorf("the log in %s knows another %s, with MAC %s: use another --data, or remove that machine", u.flags.data, m.Name, macs)
			}
			u.say("%s is known from the log", m.Name)
			continue
		}
		_, err = u.do(ctx, "add machine "+m.Name, events.KindMachine, "add", map[string]any{
			"name": m.Name, "macs": []string{m.MAC}, "serial": m.Serial, "roles": []string{m.Role},
			"bmc": events.BMC{Address: withPort(m.BMC.String(), ipmiPort), User: m.BMCUser, Secret: secret},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// powerOn switches on over IPMI what is off without anybody having asked for that, and waits until all others are ready. What was
// switched off by an intent stays off: an operator's word holds longer than a process.
func (u *raising) powerOn(ctx context.Context) error {
	since := map[string]time.Time{}
	var awaited []rack.Machine
	for _, m := range u.rack.Machines() {
		on, err := u.rack.IsOn(m.Name)
		if err != nil {
			return err
		}
		if on {
			u.say("%s is on", m.Name)
			awaited = append(awaited, m)
			continue
		}
		have, err := u.find(ctx, u.c, events.KindMachine, m.Name)
		if err != nil {
			return err
		}
		if have.text("power_wanted") == events.PowerOff {
			u.say("%s is off, as was asked for: \"machine power on %s\" switches it on", m.Name, m.Name)
			continue
		}
		awaited = append(awaited, m)
		since[m.Name] = time.Now()
		args := map[string]any{"machine": have.text("id"), "action": events.PowerOn}
		if _, err := u.do(ctx, "power on "+m.Name+" over IPMI ("+m.BMC.String()+")", events.KindMachine, "power", args); err != nil {
			return err
		}
	}
	for _, m := range awaited {
		if err := u.waitReady(ctx, m, since[m.Name]); err != nil {
			return err
		}
	}
	return nil
}

// waitReady waits until a machine has enrolled after since, and its host has reported completely.
func (u *raising) waitReady(ctx context.Context, m rack.Machine, since time.Time) error {
	begin := since // when its power was switched on
	if since.IsZero() {
		begin = time.Now()
	}
	return u.poll(ctx, "boot of "+m.Name, func() (bool, string, error) {
		machine, err := u.find(ctx, u.c, events.KindMachine, m.Name)
		if err != nil {
			return false, "", err
		}
		doing := machine.text("state")
		if enrolled, err := time.Parse(time.RFC3339Nano, machine.text("enrolled_at")); err == nil && !enrolled.Before(since.Add(-time.Second)) && doing == "up" {
			if m.Role != rack.RoleHost {
				u.say("%s is enrolled after %.0f s", m.Name, time.Since(begin).Seconds())
				return true, "", nil
			}
			host, err := u.existing(ctx, events.KindHost, m.Name)
			if err != nil {
				return false, "", err
			}
			if host != nil && host["ready"] == true && host["silent"] != true {
				u.say("%s is ready after %.0f s: Xen %s, %s for VMs", m.Name, time.Since(begin).Seconds(), host.text("xen_version"), formatMiB(host.number("allocatable_mib")))
				return true, "", nil
			}
			doing = "enrolled, waiting for its first complete report"
		}
		if lines, err := u.rack.SerialTail(m.Name, 1); err == nil && len(lines) > 0 {
			doing += " · " + strings.TrimSpace(printable([]byte(lines[0])))
		}
		return false, doing, nil
	})
}

// poll asks until it is so, and says every ten seconds what it waits for.
func (u *raising) poll(ctx context.Context, what string, ask func() (done bool, doing string, err error)) error {
	begin, told := time.Now(), time.Now()
	for {
		done, doing, err := ask()
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if done {
			return nil
		}
		if time.Since(begin) > u.flags.patience {
			return fmt.Errorf("wait for %s: not within %s (now: %s)", what, u.flags.patience, doing)
		}
		if time.Since(told) >= 10*time.Second {
			told = time.Now()
			u.say("waiting for %s, %.0f s: %.100s", what, time.Since(begin).Seconds(), doing)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}
