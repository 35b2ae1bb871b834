package commands

import (
	"encoding/base64"
	"encoding/binary"
	"regexp"
	"strings"

	"cloudengine/events"
)

// Limits of SSH public keys.
const (
	maxKeys     = 16
	maxKeyBytes = 4096
)

// KeyForm is a line "TYPE BASE64 COMMENT" of authorized_keys(5), without options.
const KeyForm = `^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/]+={0,2}( [ -~]*)?$`

var keyForm = regexp.MustCompile(KeyForm)

// checkKeys refuses what is no SSH public key. What was sent is not repeated: it may be a private key by mistake.
func checkKeys(keys []string) *Rejection {
	if len(keys) > maxKeys {
		return invalid("field \"keys\": want at most %d SSH public keys", maxKeys)
	}
	for i, k := range keys {
		if len(k) > maxKeyBytes || !keyForm.MatchString(k) {
			return invalid("field \"keys\": key %d is no SSH public key as a .pub file has it: want its type (such as ssh-ed25519), base64 and a comment, in one line of at most %d printable characters", i+1, maxKeyBytes)
		}
	}
	return nil
}

// wholeKeys refuses keys that are cut off or changed: each says its type once more inside.
func wholeKeys(keys []string) error {
	for i, k := range keys {
		kind, rest, _ := strings.Cut(k, " ")
		text, _, _ := strings.Cut(rest, " ")
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || !isKey(raw, kind) {
			return reject(events.CodeInvalid, "SSH key %d is cut off, or not of the type that it says", i+1)
		}
	}
	return nil
}

// isKey says whether bytes are a public key of RFC 4253: strings, each behind its length in 32 bits, of which the first is the type.
func isKey(raw []byte, kind string) bool {
	n := 0
	for ; len(raw) >= 4; n++ {
		size := binary.BigEndian.Uint32(raw)
		if raw = raw[4:]; int64(size) > int64(len(raw)) || n == 0 && string(raw[:size]) != kind {
			return false
		}
		raw = raw[size:]
	}
	return len(raw) == 0 && n > 1
}

// checkDisk looks at what is said of the disk that is made with the VM.
func (a CreateVM) checkDisk() *Rejection {
	switch {
	case a.DiskMiB < 0 || a.DiskMiB > maxVolumeMiB:
		return invalid("field \"disk_mib\": want 1 to %d, or 0 for the size of the template's image", maxVolumeMiB)
	case a.Pool == "":
		return nil
	}
	return checkID("pool", string(a.Pool))
}

// suits refuses what does not go with the type of the template.
func (a CreateVM) suits(t *Template) error {
	if a.Pool == "" && a.DiskMiB != 0 {
		return reject(events.CodeInvalid, "field \"disk_mib\": it goes with field \"pool\", in which the disk is made")
	}
	if t.Data.Type != events.TemplateDisk {
		switch {
		case a.Pool != "":
			return reject(events.CodeInvalid, "template %q is of type %s: there is no image that a disk could be made from", t.Data.Name, t.Data.Type)
		case len(a.Keys) > 0:
			return reject(events.CodeInvalid, "template %q is of type %s: nothing would hand keys to its guest, which is so only with one of type disk", t.Data.Name, t.Data.Type)
		}
		return nil
	}
	if a.Cmdline != "" {
		return reject(events.CodeInvalid, "template %q is of type disk: the kernel's command line is on the disk", t.Data.Name)
	}
	return wholeKeys(a.Keys)
}

// newDiskOf makes the disk of a VM that this decision makes. It has the VM's name, and the command's id, as the VM has.
func (d *decision) newDiskOf(acc *Account, a CreateVM, t *Template) error {
	if err := d.freshID(events.KindVolume); err != nil {
		return err
	}
	if d.freeName(events.KindVolume, acc.ID, a.Name) != nil {
		return reject(events.CodeNameTaken, "volume %[1]q is there already, and the VM's disk would have its name: name the VM otherwise, or leave the pool out and attach volume %[1]q (volume attach)", a.Name)
	}
	if err := d.newVolume(acc, CreateVolume{Name: a.Name, Pool: a.Pool, SizeMiB: a.DiskMiB}, t); err != nil {
		return err
	}
	d.add(events.KindVolume, d.newID(), events.VolumeAttached{VM: events.VMID(d.newID()), Slot: events.SlotPrimary})
	return nil
}
