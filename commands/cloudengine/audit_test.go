package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"cloudengine/events"
	"cloudengine/events/archive"

	"github.com/rogpeppe/go-internal/testscript"
)

// tamper does to a copy of a log what nobody should: tamper IN OUT cut, or change|forge|remove|roll NUMBER. All but cut and change
// make all digests and numbers anew.
func tamper(ts *testscript.TestScript, args []string) error {
	raw, err := os.ReadFile(ts.MkAbs(args[0]))
	if err != nil {
		return err
	}
	out := ts.MkAbs(args[1])
	if args[2] == "cut" {
		return os.WriteFile(out, raw[:len(raw)/2], 0o600)
	}
	number, err := strconv.ParseUint(args[3], 10, 64)
	if err != nil {
		return err
	}
	var blocks []*events.Block
	_, _, err = archive.Read(bytes.NewReader(raw), func(_ uint64, payload []byte) error {
		b, err := events.DecodeBlock(payload)
		blocks = append(blocks, b)
		return err
	})
	if err != nil {
		return err
	}
	at := slices.IndexFunc(blocks, func(b *events.Block) bool { return b.Last() >= number })
	if at < 0 {
		return fmt.Errorf("no block has decision %d", number)
	}
	b := blocks[at]
	i := int(number - b.First)
	switch args[2] {
	case "change", "forge":
		b.Decisions[i].Actor = "mallory"
	case "remove":
		if b.Decisions = slices.Delete(b.Decisions, i, i+1); len(b.Decisions) == 0 {
			blocks = slices.Delete(blocks, at, at+1)
		}
	case "roll":
		blocks = blocks[:at+1]
	}
	return writeTampered(out, blocks, args[2] != "change")
}

func writeTampered(path string, blocks []*events.Block, anew bool) error {
	var file bytes.Buffer
	w, err := archive.NewWriter(&file, time.Now())
	if err != nil {
		return err
	}
	prev, next := "", uint64(1)
	for _, b := range blocks {
		if anew {
			b.Prev, b.First = prev, next
		}
		payload, err := b.Encode()
		if err == nil {
			err = w.Add(payload)
		}
		if err != nil {
			return err
		}
		prev, next = events.Digest(payload), b.Last()+1
	}
	if _, err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, file.Bytes(), 0o600)
}
