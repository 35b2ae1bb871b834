package main

import "maps"

const (
	octetPattern  = `(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])`
	ipv4Pattern   = `^` + octetPattern + `(\.` + octetPattern + `){3}$`
	subnetPattern = `^` + octetPattern + `(\.` + octetPattern + `){3}/([89]|1[0-9]|2[0-9])$`
)

func init() {
	maps.Copy(rules, storageRules)
	maps.Copy(verbSays, map[string]string{
		"fabric.delete":            "Ends a fabric without members and pools.",
		"pool.delete":              "Ends a pool without arrays.",
		"array.cancel_replacement": "Lets the disk go that follows a leg; the leg stays, unless the disk was in sync already.",
		"machine.drain":            "Takes a storage node out of the choice of disks; each of its legs is replaced by a disk of another node, one after another. Refused when there are not enough.",
		"machine.undrain":          "Lets a storage node's disks be chosen again; what was replaced stays where it is.",
		"array.delete":             "Ends an array without volumes. While it has an owner, tells that to give it up: ask again then.",
		"template.import":          "Puts the image of a template of type disk onto an array as a golden volume, which volumes are copied from then; tries again at once if that has failed. Nothing to do if it is there and ready.",
		"volume.detach":            "Takes a volume away from its VM, which must not run.",
		"volume.delete":            "Ends a volume that is attached to no VM. Its extents are free when its array's owner has wiped them.",
	})
}

// storageRules are those of fabrics, disks, pools, arrays and volumes.
var storageRules = map[string]rule{
	"commands.CreateFabric.Name":      named("name, unique among fabrics"),
	"commands.CreateFabric.Transport": {says: "what is spoken on it", values: "events.TransportSRP"},
	"commands.CreateFabric.Subnet":    {says: "IPv4 subnet of 8 to 29 bits in CIDR form, without bits behind the mask", pattern: subnetPattern},
	"commands.CreateFabric.MTU":       {says: "bytes, at least 1280; 0 or left out: 1500", min: "0", max: "65520"},
	"commands.FabricRef.Fabric":       {says: "id of the fabric"},
	"commands.JoinFabric.Fabric":      {says: "id of the fabric"},
	"commands.JoinFabric.MAC":         {says: "of the machine's card there, lower case with colons", pattern: macPattern},
	"commands.JoinFabric.Address":     {pattern: ipv4Pattern},
	"commands.LeaveFabric.Fabric":     {says: "id of the fabric"},
	"commands.CreatePool.Name":        named("name, unique among pools"),
	"commands.CreatePool.Fabric":      {says: "id of the fabric that its disks are on"},
	"commands.CreatePool.Redundancy":  {says: "copies of each extent, 2 to 4; 0 or left out: 2", min: "0", max: "4"},
	"commands.CreatePool.ExtentMiB":   {says: "size of an extent in MiB, a power of two; 0 or left out: 4", min: "0", max: "1024"},
	"commands.PoolRef.Pool":           {says: "id of the pool"},
	"commands.CreateArray.Name":       named("name, unique among arrays"),
	"commands.CreateArray.Pool":       {says: "id of the pool"},
	"commands.CreateArray.Disks":      {maxItems: count(64)},
	"commands.CreateArray.Sets":       {min: "0", max: "32"},
	"commands.ArrayRef.Array":         {says: "id of the array"},
	"commands.FailoverArray.Array":    {says: "id of the array"},
	"commands.ReplaceLeg.Array":       {says: "id of the array"},
	"commands.SetResync.Array":        {says: "id of the array"},
	"commands.SetResync.LimitKiB":     {says: "KiB per second that may be copied or compared, at least 1024; 0 or left out: as it is", min: "0", max: "16777216"},
	"commands.SetResync.NoLimit":      {says: "no limit"},
	"commands.SetResync.Pause":        {says: "nothing is copied or compared any more"},
	"commands.SetResync.Resume":       {says: "it may be copied and compared again"},
	"commands.CheckArray.Array":       {says: "id of the array"},
	"commands.SetPool.Pool":           {says: "id of the pool"},
	"commands.SetPool.CheckHours":     {says: "hours from the end of a check of an array to the next, or from its creation; 0 or left out: none is scheduled", min: "0", max: "8760"},
	"commands.CreateVolume.Name":      named("name, unique in its account"),
	"commands.CreateVolume.Pool":      {says: "id of the pool"},
	"commands.CreateVolume.SizeMiB":   {says: "size in MiB; rounded up to whole extents; 0 with a template: as large as its image", min: "0", max: "67108864"},
	"commands.CreateVolume.Template":  {says: "id of a template of type disk, whose image the volume begins with; left out: it is empty"},
	"commands.ImportTemplate.Array":   {says: "id of the array"},
	"commands.VolumeRef.Volume":       {says: "id of the volume"},
	"commands.GrowVolume.Volume":      {says: "id of the volume"},
	"commands.GrowVolume.SizeMiB":     {says: "size in MiB that it shall have; rounded up to whole extents", min: "1", max: "67108864"},
	"commands.LimitVolume.Volume":     {says: "id of the volume"},
	"commands.LimitVolume.ReadBPS":    {says: "bytes per second, at least 1048576; 0: no limit", min: "0", max: "1099511627776"},
	"commands.LimitVolume.WriteBPS":   {says: "bytes per second, at least 1048576; 0: no limit", min: "0", max: "1099511627776"},
	"commands.LimitVolume.ReadIOPS":   {says: "requests per second, at least 10; 0: no limit", min: "0", max: "10000000"},
	"commands.LimitVolume.WriteIOPS":  {says: "requests per second, at least 10; 0: no limit", min: "0", max: "10000000"},
	"commands.AttachVolume.Volume":    {says: "id of the volume"},
	"commands.AttachVolume.Slot":      {says: "where the guest sees it; left out: the first that is free", values: "events.SlotPrimary"},

	"events.FabricCreated.Transport": {says: "what is spoken on it", values: "events.TransportSRP", open: true},
	"events.DiskFound.Health":        {says: "its own assessment", values: "events.DiskHealthy", open: true},
	"events.DiskFound.Bytes":         {says: "size"},
	"events.DiskFound.Model":         {says: "as the disk says"},
}
