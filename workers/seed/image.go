package seed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kdomanski/iso9660"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// label is how cloud-init finds its data source among all disks.
const label = "cidata"

// image writes the file system of a seed.
func image(out io.Writer, vm events.VMID, s desired.Seed) (err error) {
	w, err := iso9660.NewWriter()
	if err != nil {
		return fmt.Errorf("make seed: %w", err)
	}
	defer func() { err = errors.Join(err, w.Cleanup()) }()
	for name, text := range map[string]string{"meta-data": metaData(vm, s), "user-data": userData(s)} {
		if err := w.AddFile(strings.NewReader(text), name); err != nil {
			return fmt.Errorf("make seed: %w", err)
		}
	}
	var b bytes.Buffer
	if err := w.WriteTo(&b, label); err != nil {
		return fmt.Errorf("make seed: %w", err)
	}
	if _, err := b.WriteTo(out); err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	return nil
}

// metaData: the instance is the VM, so that one whose disk was copied from another's does once more what is done at a first boot.
func metaData(vm events.VMID, s desired.Seed) string {
	return "instance-id: " + quote(string(vm)) + "\nlocal-hostname: " + quote(s.Hostname) + "\n"
}

func userData(s desired.Seed) string {
	b := &strings.Builder{}
	b.WriteString("#cloud-config\nhostname: " + quote(s.Hostname) + "\n")
	if len(s.Keys) > 0 {
		b.WriteString("ssh_authorized_keys:\n")
	}
	for _, k := range s.Keys {
		b.WriteString("  - " + quote(k) + "\n")
	}
	return b.String()
}

// quote writes a text as a double-quoted scalar of YAML (1.1 and 1.2, 5.7): only printable ASCII stands for itself, so that no reader
// finds an end, a tag or a line in it. What is not UTF-8 becomes U+FFFD.
func quote(s string) string {
	b := &strings.Builder{}
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		default:
			fmt.Fprintf(b, "\\U%08X", r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
