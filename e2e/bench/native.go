package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"cloudengine/bootimage"
	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/google/uuid"
	"github.com/u-root/u-root/pkg/cpio"
)

// native is a control plane and one host's agent, both real processes on this computer. The host is a model.
type native struct {
	serve, agent *child
	c            *client.Client
	w            *watcher
	machine      string
	account      string
	template     string
	calls        *calls
	stop         context.CancelFunc
}

const nativeMAC = "52:54:00:be:00:01"

// startNative starts both. The host has memory MiB.
func startNative(ctx context.Context, b *bench, memory int) (n *native, err error) {
	dir := filepath.Join(b.dir, "native")
	image := filepath.Join(dir, "image")
	if err := os.MkdirAll(image, 0o755); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if err := tinyImage(image); err != nil {
		return nil, err
	}
	program, err := b.cloudengine(ctx)
	if err != nil {
		return nil, err
	}
	n = &native{}
	ctx, n.stop = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	data := filepath.Join(dir, "data")
	n.serve, err = launch("cloudengine serve", filepath.Join(dir, "serve.log"), program, "serve", "--data", data,
		"--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--image", image, "--netboot-any-source")
	if err != nil {
		return n, err
	}
	web, err := n.connect(ctx, data)
	if err != nil {
		return n, err
	}
	return n, n.addHost(ctx, b, dir, web, memory)
}

// connect waits until the control plane answers.
func (n *native) connect(ctx context.Context, data string) (web string, err error) {
	var where struct{ Bus, HTTP string }
	err = n.serve.until(ctx, time.Minute, "the control plane", func() error {
		raw, err := os.ReadFile(filepath.Join(data, "endpoints.json"))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &where); err != nil {
			return err
		}
		_, err = fetch(ctx, where.HTTP+"/healthz")
		return err
	})
	if err != nil {
		return "", err
	}
	if n.c, err = client.Connect(ctx, where.Bus, filepath.Join(data, "admin.nk")); err != nil {
		return "", err
	}
	n.w = watch(ctx, n.c)
	return where.HTTP, nil
}

// addHost makes a machine known, boots its agent as netboot would have, and makes what VMs need.
func (n *native) addHost(ctx context.Context, b *bench, dir, web string, memory int) error {
	a, err := order(ctx, n.c, events.KindMachine, "add", map[string]any{
		"name": "bench1", "macs": []string{nativeMAC}, "roles": []string{events.RoleHost},
	})
	if err != nil {
		return err
	}
	n.machine = string(a.ID)
	var config []byte
	err = n.serve.until(ctx, 30*time.Second, "boot files", func() error {
		config, err = bootConfig(ctx, web)
		return err
	})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "boot.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return fmt.Errorf("store boot configuration: %w", err)
	}
	program, err := b.program(ctx, "noded", "./workers/noded")
	if err != nil {
		return err
	}
	record := filepath.Join(dir, "calls")
	if n.calls, err = listenForCalls(record); err != nil {
		return err
	}
	n.agent, err = launch("noded", filepath.Join(dir, "noded.log"), program, "--config", file, "--run", filepath.Join(dir, "run"),
		"--runner", "recording", "--record", record, "--memory", strconv.Itoa(memory), "--boot-id", uuid.NewString())
	if err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := n.w.hostReady(ready, n.machine); err != nil {
		tail, _ := os.ReadFile(n.agent.log)
		return fmt.Errorf("%w; the agent says: %s", err, tail[max(0, len(tail)-1500):])
	}
	return n.ground(ctx)
}

// ground makes an account and a template. No file of the template is ever read: the host is a model.
func (n *native) ground(ctx context.Context) error {
	a, err := order(ctx, n.c, events.KindAccount, "create", map[string]any{"name": "bench"})
	if err != nil {
		return err
	}
	n.account = string(a.ID)
	a, err = order(ctx, n.c, events.KindTemplate, "create", map[string]any{
		"name": "bench", "type": "kernel", "cmdline": "console=hvc0", "min_memory_mib": 32,
		"kernel":  events.Blob{SHA256: fmt.Sprintf("%064x", 1), Size: 1},
		"ramdisk": events.Blob{SHA256: fmt.Sprintf("%064x", 2), Size: 1},
	})
	n.template = string(a.ID)
	return err
}

func (n *native) close() error {
	if n.c != nil {
		n.c.Close()
	}
	n.stop()
	err := errors.Join(n.agent.stop(), n.serve.stop())
	if n.calls != nil {
		err = errors.Join(err, n.calls.close())
	}
	return err
}

// tinyImage makes an image that nothing could boot: all that is read of it is the boot configuration that netboot appends.
func tinyImage(dir string) error {
	m := bootimage.Manifest{Kernel: "none"}
	for _, name := range []string{bootimage.XenFile, bootimage.KernelFile, bootimage.InitrdFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("none"), 0o644); err != nil {
			return fmt.Errorf("make image: %w", err)
		}
		m.Parts = append(m.Parts, bootimage.Part{Name: name, Size: 4})
	}
	if err := m.Seal(); err != nil {
		return err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, bootimage.ManifestFile), raw, 0o644); err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	return nil
}

// bootConfig fetches the initramfs of the machine and takes boot.json out of its end.
func bootConfig(ctx context.Context, web string) ([]byte, error) {
	raw, err := fetch(ctx, web+"/boot/"+nativeMAC+"/initrd.img")
	if err != nil {
		return nil, err
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(raw[min(4, len(raw)):])))
	if err != nil {
		return nil, fmt.Errorf("read initramfs: %w", err)
	}
	for _, r := range records {
		if "/"+r.Name == bootimage.BootConfigPath {
			return io.ReadAll(io.NewSectionReader(r.ReaderAt, 0, int64(r.FileSize)))
		}
	}
	return nil, errors.New("read initramfs: no boot configuration in it")
}

// fetch gets a document; anything but 200 is an error.
func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s: %.200s", url, resp.Status, body)
	}
	return body, err
}
