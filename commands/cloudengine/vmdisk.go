package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"cloudengine/commands/api/client"
	"cloudengine/events"
)

// diskOf adds what is said of a VM's disk, and of who may log in, to the arguments that make it.
func (a *app) diskOf(ctx context.Context, c *client.Client, v newVM, args map[string]any) error {
	var keys []string
	for _, path := range v.keys {
		more, err := readKeys(path)
		if err != nil {
			return err
		}
		keys = append(keys, more...)
	}
	if len(keys) > 0 {
		args["keys"] = keys
	}
	if v.diskSize != 0 {
		args["disk_mib"] = int(v.diskSize)
	}
	if v.pool == "" {
		if v.diskSize != 0 {
			return usagef("flag --disk-size goes with --pool, in which the disk is made")
		}
		return nil
	}
	id, err := a.idOf(ctx, c, events.KindPool, v.pool)
	args["pool"] = id
	return err
}

// readKeys reads the public keys of a file, a line each. A private key must not leave this machine, so it is found out here.
func readKeys(path string) ([]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read SSH key: %w", err)
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "-----BEGIN") || strings.Contains(line, "PRIVATE KEY") {
			return nil, usagef("%s is a private key, which is for nobody else: name the public one (%s.pub)", path, path)
		}
		if line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		return nil, usagef("%s holds no SSH key", path)
	}
	return out, nil
}
