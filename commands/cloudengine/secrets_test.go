package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/google/uuid"
)

// TestSecretsStayWhereTheyBelong plants secrets of every kind in a running server that logs all it can, and then looks for them in its
// log, in the arguments of all its processes, in the log of decisions, in the database, and in every other file that it has.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	c := newCloud(t, "--log-level", "debug", "--silence", "1h")
	planted := map[string]string{"BMC password": "planted-" + uuid.NewString()}
	if a, err := c.admin.SetSecret(t.Context(), "bmc", []byte(planted["BMC password"]), client.WithReason("a test")); err != nil || a.Outcome.Status != events.Accepted {
		t.Fatalf("set secret: %+v, %v", a.Outcome, err)
	}
	ann, _ := c.user("ann", events.RoleOperate, "")
	host := c.machine("host1")
	c.do(events.KindMachine, "add", map[string]any{"name": "host2", "macs": []string{"52:54:00:bb:00:01"}, "roles": []string{events.RoleHost},
		"bmc": events.BMC{Address: "127.0.0.1:1", User: "admin", Secret: "bmc"}})
	planted["boot token"] = host.file.Token
	boot := uuid.NewString()
	nc := host.up(boot)
	host.report(nc, events.Report{Machine: host.id, Boot: boot, Counter: 1, Complete: true})
	_ = answerWrong(host)
	for name, file := range map[string]string{"key of admin": filepath.Join(c.node.data, adminKeyFile), "key of ann": ann} {
		seed, _, err := client.ReadKeyFile(file)
		if err != nil {
			t.Fatal(err)
		}
		planted[name] = string(seed)
	}
	planted["key of the authority"] = middle(t, filepath.Join(c.node.data, authorityDir, "ca.key"))
	planted["key that seals"] = string(bytes.TrimSpace(readAll(t, filepath.Join(c.node.data, "master.key"))))
	c.rows() // the read models have it all

	processes(t, c.node.process.cmd.Process.Pid, planted)
	own := map[string]string{adminKeyFile: "key of admin", "ann.nk": "key of ann", filepath.Join(authorityDir, "ca.key"): "key of the authority", "master.key": "key that seals"}
	files, looked, found := 0, int64(0), map[string]bool{}
	look := func(path, name string) {
		raw, err := os.ReadFile(path)
		if err != nil {
			return // a file of the database that is gone
		}
		files, looked = files+1, looked+int64(len(raw))
		for what, value := range planted {
			if !bytes.Contains(raw, []byte(value)) {
				continue
			}
			if found[what] = true; own[name] != what {
				t.Errorf("the %s is in %s", what, name)
			}
		}
	}
	if !bytes.Contains(readAll(t, c.node.process.log), []byte("level=DEBUG")) {
		t.Error("the server does not log all that it can")
	}
	look(c.node.process.log, "its log")
	err := filepath.WalkDir(c.node.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		name, err := filepath.Rel(c.node.data, path)
		if err != nil {
			return err
		}
		look(path, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("looked through %d files, %d MiB", files, looked>>20)
	for name, what := range own {
		if !found[what] {
			t.Errorf("the %s is not even in %s: this test would not find it elsewhere", what, name)
		}
	}
}

// answerWrong tries a wrong token, so that an error is logged.
func answerWrong(a *agent) error {
	_, err := answerOnce(a, a.file.Token+"x")
	return err
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// middle gives a line out of the middle of a PEM file.
func middle(t *testing.T, path string) string {
	t.Helper()
	lines := strings.Split(string(readAll(t, path)), "\n")
	return lines[len(lines)/2]
}

// processes looks at the arguments of a process and of all below it.
func processes(t *testing.T, pid int, planted map[string]string) {
	t.Helper()
	seen := 0
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", queue[0]))
		if err != nil {
			continue
		}
		seen++
		for what, value := range planted {
			if bytes.Contains(line, []byte(value)) {
				t.Errorf("the %s is in the arguments of process %d: %q", what, queue[0], line)
			}
		}
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", queue[0]))
		for _, f := range tasks {
			raw, _ := os.ReadFile(f)
			for _, word := range strings.Fields(string(raw)) {
				var child int
				if _, err := fmt.Sscan(word, &child); err == nil {
					queue = append(queue, child)
				}
			}
		}
	}
	if seen < 2 {
		t.Errorf("%d processes were found: where is the database?", seen)
	}
}
