package main

import "maps"

const (
	versionPattern = `^[0-9a-f]{16}$` // of a boot image
	digitsPattern  = `^[0-9a-f]{12}$` // of a MAC address
	wordPattern    = `^[ -~]{1,128}$`
	filePattern    = `^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`
)

func init() {
	maps.Copy(rules, bootimageRules)
	maps.Copy(verbSays, map[string]string{
		"bootimage.remove":      "Makes a version of the boot image unknown. Refused while a machine runs it, is to boot it, or would be rolled back to it.",
		"bootimage.set_default": "Sets what machines boot that have no image of their own. Reboots nothing.",
		"discovered.drop":       "Ends the discovery of a machine: it gets no boot, and is not recorded again.",
	})
}

// bootimageRules are those of boot images and of what netboot tells.
var bootimageRules = map[string]rule{
	"commands.RegisterBootimage.Name":     named("name, unique among boot images; leave it out if there is none"),
	"commands.RegisterBootimage.Manifest": {says: "the image's manifest.json: its version must be the digest of the rest"},
	"commands.BootimageRef.Bootimage":     {says: "version of a registered boot image", pattern: versionPattern},
	"commands.SetMachineImage.Image":      {says: "version of a registered boot image; left out: the default", pattern: versionPattern},
	"commands.DiscoveredRef.Discovered":   {pattern: digitsPattern},

	"events.BootManifest.Version":         {pattern: versionPattern},
	"events.BootManifest.Packages":        {says: "Debian packages from which files were taken", maxItems: count(1024)},
	"events.BootManifest.Tools":           {says: "Go toolchain and modules that built our own programs", maxItems: count(1024)},
	"events.BootManifest.Parts":           {says: "files of the image", minItems: count(1), maxItems: count(16)},
	"events.BootManifest.Contents":        {maxItems: count(1024)},
	"events.BootPart.Name":                {says: "name of the file", pattern: filePattern},
	"events.BootPart.Size":                {min: "1", max: n(1 << 30)},
	"events.BootPart.SHA256":              {says: "SHA-256 (hex) of the file", pattern: sha256Pattern},
	"events.BootPackage.Name":             {says: "name of the package", pattern: wordPattern},
	"events.BootPackage.Version":          {says: "version of the package", pattern: wordPattern},
	"events.BootTool.Name":                {says: "name of the tool", pattern: wordPattern},
	"events.BootTool.Version":             {says: "version of the tool", pattern: wordPattern},
	"events.BootPackage.SHA256":           {pattern: sha256Pattern},
	"events.BootManifest.Kernel":          {pattern: wordPattern},
	"events.BootContent.Name":             {pattern: wordPattern},
	"events.BootContent.Files":            {min: "1", max: n(1 << 20)},
	"events.BootContent.Size":             {min: "1", max: n(1 << 30)},
	"events.BootimageRegistered.Manifest": {says: "the image's manifest.json"},
	"events.DiscoveredFound.Serial":       {says: "SMBIOS serial number"},
	"events.DiscoveredFound.Manufacturer": {says: "SMBIOS manufacturer"},
	"events.DiscoveredFound.Product":      {says: "SMBIOS product"},
	"events.DiscoveredAdded.Machine":      {says: "the machine that it became"},
}
